//! The terminal while the demo is drawn on it; it is as it was before when the demo ends, however it ends.
//!
//! Taken are the alternate screen, without a cursor and without wrapped lines, and the input, without echo and key by
//! key. It is put back when the value is dropped, and before a panic of the drawing thread is told. `SIGKILL` leaves no
//! time for that; the shell's `reset` helps then.

use super::layout::Size;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Alternate screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The reverse.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Where a terminal tells no size, as some serial lines do.
const UNKNOWN: Size = Size { columns: 80, rows: 24 };

/// A terminal that is drawn on.
#[derive(Debug)]
pub(super) struct Terminal {
    held: Arc<Held>,
}

/// What has to be put back.
#[derive(Debug)]
pub(super) struct Held {
    output: File,
    /// The keyboard, if it is this terminal's, and its modes before.
    input: Option<(OwnedFd, Termios)>,
    is_taken: Mutex<bool>,
}

impl Terminal {
    /// Takes the terminal of the standard streams; `None` where standard output is none, or one without a cursor.
    pub(super) fn open() -> Option<Terminal> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let output = io::stdout();
        if is_dumb || !output.is_terminal() {
            return None;
        }
        let input = io::stdin();
        let input = input.is_terminal().then(|| input.as_fd().try_clone_to_owned().ok()).flatten();
        let output = output.as_fd().try_clone_to_owned().ok()?;
        Terminal::take(input, File::from(output)).ok()
    }

    /// Takes this terminal.
    ///
    /// # Errors
    /// It takes no output.
    fn take(input: Option<OwnedFd>, output: File) -> io::Result<Terminal> {
        let input = input.and_then(|input| tcgetattr(&input).ok().map(|before| (input, before)));
        let held = Arc::new(Held { output, input, is_taken: Mutex::new(true) });
        let terminal = Terminal { held: Arc::clone(&held) };
        if let Some((input, before)) = &held.input {
            let mut modes = before.clone();
            // Ctrl-C stays a signal. Ctrl-Z would leave a stopped demo on the alternate screen.
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(input, OptionalActions::Now, &modes)?;
        }
        (&held.output).write_all(ENTER.as_bytes())?;
        let (drawing, before) = (std::thread::current().id(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            // A panic elsewhere ends a request, not the demo.
            if std::thread::current().id() == drawing {
                held.put_back();
            }
            before(panic);
        }));
        Ok(terminal)
    }

    /// Its size now; it changes with its window.
    pub(super) fn size(&self) -> Size {
        match tcgetwinsize(&self.held.output) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => UNKNOWN,
        }
    }

    /// Whether keys can be read.
    pub(super) fn has_keys(&self) -> bool {
        self.held.input.is_some()
    }

    /// Writes `text`.
    ///
    /// # Errors
    /// The terminal was closed.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        (&self.held.output).write_all(text.as_bytes())
    }

    /// What puts it back, for whoever has to while the drawing thread is stuck.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }
}

impl Held {
    /// Puts the input back: that waits for nothing, also where the terminal takes no output (Ctrl-S).
    pub(super) fn put_input_back(&self) {
        if let Some((input, before)) = &self.input {
            let _ = tcsetattr(input, OptionalActions::Now, before);
        }
    }

    fn put_back(&self) {
        let mut is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *is_taken) {
            self.put_input_back();
            let _ = (&self.output).write_all(LEAVE.as_bytes());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.held.put_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    use std::io::Read as _;

    /// Both sides of a pseudo terminal of 24 lines of 80.
    fn pseudo_terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        (File::from(master), slave)
    }

    fn taken(slave: &File) -> Terminal {
        let input = slave.as_fd().try_clone_to_owned().unwrap();
        Terminal::take(Some(input), slave.try_clone().unwrap()).unwrap()
    }

    fn echoes(slave: &File) -> bool {
        tcgetattr(slave).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    fn written(master: &mut File) -> String {
        let mut bytes = [0; 4096];
        let count = master.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_terminal_that_is_dropped_is_as_before() {
        let (mut master, slave) = pseudo_terminal();

        let terminal = taken(&slave);

        assert!(terminal.has_keys() && !echoes(&slave));
        assert_eq!(terminal.size(), Size { columns: 80, rows: 24 });
        drop(terminal);
        assert!(echoes(&slave));
        assert_eq!(written(&mut master), format!("{ENTER}{LEAVE}"));
    }

    #[test]
    fn a_panic_of_the_drawing_thread_puts_the_terminal_back_before_it_is_told() {
        let (_master, slave) = pseudo_terminal();
        let drawing = slave.try_clone().unwrap();

        let panicked = std::thread::spawn(move || {
            let terminal = taken(&drawing);
            // Never dropped: only the hook can have put it back.
            std::mem::forget(terminal);
            panic!("on purpose");
        });

        assert!(panicked.join().is_err());
        assert!(echoes(&slave));
    }
}
