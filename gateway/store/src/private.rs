//! Files of the state folder are for their owner's eyes: who has an account, with which rights and limits, is the
//! operator's business.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// What the owner may, and nobody else.
const FILE_MODE: u32 = 0o600;
/// The same for a folder.
const FOLDER_MODE: u32 = 0o700;
/// What group and others may.
const OTHERS: u32 = 0o077;

/// Opens a file as `options` say; one that is made is private, and one that others may read or write becomes so. Where
/// that cannot be done it is told, and the file is used.
///
/// # Errors
/// As the opening of any file.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(FILE_MODE).open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & OTHERS != 0 {
        match file.set_permissions(Permissions::from_mode(FILE_MODE)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "others had rights on this file of the state folder; it is private now")
            }
            Err(e) => tracing::warn!(
                path = %path.display(),
                "others have rights on this file of the state folder, and they could not be taken away: {e}; `chmod 600` it"
            ),
        }
    }
    Ok(file)
}

/// Makes a folder that is missing, with those above it; it is private. One that is there stays as it is.
///
/// # Errors
/// As the making of any folder.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Writes a file anew, private from its first byte on.
///
/// # Errors
/// As the writing of any file.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = open(path, OpenOptions::new().create(true).truncate(true).write(true))?;
    file.write_all(content)?;
    file.sync_all()
}

/// A private copy of a file, put beside it.
///
/// # Errors
/// As the copying of any file.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = open(to, OpenOptions::new().create(true).truncate(true).write(true))?;
    io::copy(&mut File::open(from)?, &mut copy).map(drop)
}

/// Makes a file private that something else than this module has made, such as a socket.
///
/// # Errors
/// As any change of rights.
pub fn close_off(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_private_and_what_was_not_becomes_so() {
        let folder = std::env::temp_dir().join(format!("tidegate-private-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        make_folder(&folder.join("state")).unwrap();
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("state"), 0o700);

        write(&folder.join("new"), b"x").unwrap();
        fs::write(folder.join("old"), "y").unwrap();
        fs::set_permissions(folder.join("old"), Permissions::from_mode(0o666)).unwrap();
        open(&folder.join("old"), OpenOptions::new().read(true)).unwrap();
        copy(&folder.join("old"), &folder.join("copy")).unwrap();

        assert_eq!(["new", "old", "copy"].map(mode), [0o600; 3]);
        assert_eq!(fs::read(folder.join("copy")).unwrap(), b"y");
        fs::remove_dir_all(&folder).unwrap();
    }
}
