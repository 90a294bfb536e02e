//! The proxies' configurations of the book, as they stand there, with addresses put in.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// The pages that have them.
const PAGES: [&str; 2] = [
    include_str!("../../../../deploy/book/how-to/nginx.md"),
    include_str!("../../../../deploy/book/how-to/haproxy.md"),
];

/// The code block of a language.
///
/// # Errors
/// The book has none.
pub fn block(language: &str) -> io::Result<String> {
    blocks(language).next().map(str::to_owned).ok_or_else(|| missing(&format!("a block of {language}")))
}

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("\n```{language}\n");
    let in_page = move |page: &'static str| {
        let pieces: Vec<&'static str> = page.split(fence.as_str()).skip(1).collect();
        pieces.into_iter().filter_map(|piece| piece.split("```").next())
    };
    PAGES.into_iter().flat_map(in_page)
}

fn missing(what: &str) -> io::Error {
    io::Error::other(format!("deploy/book/how-to has not {what}"))
}

/// The entry of `listen.proxies` with this key, as a line of `listen` that begins with a comma.
///
/// # Errors
/// The book has none.
pub fn proxies(key: &str) -> io::Result<String> {
    let lines = || blocks("yaml").flat_map(str::lines);
    let entry = lines().find_map(|line| line.trim().strip_prefix("- ").filter(|entry| entry.contains(key)));
    entry.map(|entry| format!(", proxies: [{entry}]")).ok_or_else(|| missing(&format!("a proxy with {key}")))
}

/// HAProxy's, listening at `listen` in front of `gateway`.
///
/// # Errors
/// The book has none.
pub fn haproxy(listen: SocketAddr, gateway: SocketAddr) -> io::Result<String> {
    let text = block("haproxy")?;
    let text = text.replace("bind :443", &format!("bind {listen}"));
    Ok(text.replace("127.0.0.1:8443", &gateway.to_string()))
}

/// nginx's, the same, and with its files in `folder`, as one beside an installed one needs.
#[must_use]
pub fn nginx(text: &str, listen: SocketAddr, gateway: SocketAddr, folder: &Path) -> String {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string();
    let http = format!(
        "http {{\n    access_log off;\n    client_body_temp_path {folder}/body;\n    proxy_temp_path {folder}/proxy;\n    \
         fastcgi_temp_path {folder}/fastcgi;\n    uwsgi_temp_path {folder}/uwsgi;\n    scgi_temp_path {folder}/scgi;\n"
    );
    text.replace("http {\n", &http)
        .replace("listen 443", &format!("listen {listen}"))
        .replace("127.0.0.1:8080", &gateway.to_string())
        .replace("/etc/nginx/tls.crt", &format!("{folder}/gateway.pem"))
        .replace("/etc/nginx/tls.key", &format!("{folder}/gateway.key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_has_what_is_run() {
        let (listen, gateway) =
            (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let text = haproxy(listen, gateway).unwrap();
        assert!(text.contains("bind 127.0.0.1:1\n") && text.contains("127.0.0.1:2 send-proxy-v2"), "{text}");
        let text = nginx(&block("nginx").unwrap(), listen, gateway, Path::new("/somewhere"));
        for part in
            ["listen 127.0.0.1:1 ssl;", "server 127.0.0.1:2;", "ssl_certificate /somewhere/gateway.pem;"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(proxies("proxy_protocol").unwrap().contains("cidr: 127.0.0.1"));
        assert!(proxies("x_forwarded_for").is_ok() && proxies("nothing").is_err());
    }
}
