//! The live view on a terminal: an alternate screen that is drawn anew, and a terminal that is always put back.
//!
//! Whatever ends the view (a key, `SIGINT`, `SIGTERM`, `SIGHUP`, an error, a panic) drops the guard that has changed the
//! terminal, and its drop restores it.

use super::screen::{Look, Screen};
use super::{EVERY_S_BOUNDS, Status};
use crate::commands::{CommandError, Connected, has_colours};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{self, Read as _, Write as _};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

/// The alternate screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first place; the rest of a line; the rest of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K\r\n";
const REST_OF_SCREEN: &str = "\x1b[J";
/// A terminal that does not say how large it is.
const SIZE_UNKNOWN: (usize, usize) = (80, 24);
/// Ctrl-D, which ends a program that reads a terminal.
const CONTROL_D: u8 = 4;
/// Keys that may wait.
const KEYS_MAX: usize = 16;

/// A terminal that shows the view. Dropping it puts back what was there.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn enter() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        // Keys come one by one and unseen. Ctrl-C goes on sending SIGINT; Ctrl-Z would leave the screen as it is.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        for code in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
            raw.special_codes[code] = 0;
        }
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let terminal = Terminal { before };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        write(ENTER)?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE_UNKNOWN,
    }
}

/// What ends or changes the view.
enum Heard {
    Key(u8),
    End,
    Resized,
    Due,
}

/// Signals and keys.
struct Ears {
    ends: [Signal; 3],
    resized: Signal,
    keys: mpsc::Receiver<u8>,
}

impl Ears {
    fn open() -> io::Result<Ears> {
        let end = |kind| signal(kind);
        let (told, keys) = mpsc::channel(KEYS_MAX);
        // It ends with the process: a read of a terminal cannot be called off.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for key in io::stdin().lock().bytes() {
                let Ok(key) = key else { return };
                if told.blocking_send(key).is_err() {
                    return;
                }
            }
        })?;
        Ok(Ears {
            ends: [end(SignalKind::interrupt())?, end(SignalKind::terminate())?, end(SignalKind::hangup())?],
            resized: signal(SignalKind::window_change())?,
            keys,
        })
    }

    /// Waits for a signal or a key, or for the next tick.
    async fn hear(&mut self, ticks: &mut Interval) -> Heard {
        let [interrupt, terminate, hang_up] = &mut self.ends;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Heard::End,
            _ = terminate.recv() => Heard::End,
            _ = hang_up.recv() => Heard::End,
            _ = self.resized.recv() => Heard::Resized,
            // A terminal that is gone sends no key any more.
            key = self.keys.recv() => key.map_or(Heard::End, Heard::Key),
            _ = ticks.tick() => Heard::Due,
        }
    }

    /// Waits for what ends the view.
    async fn end(&mut self) {
        let mut ticks = paced(Duration::from_secs(1));
        while !matches!(self.hear(&mut ticks).await, Heard::End | Heard::Key(b'q' | b'Q' | CONTROL_D)) {}
    }
}

/// Ticks at the end of each `every`.
fn paced(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// Draws the status of a gateway until somebody ends it.
///
/// # Errors
/// The terminal cannot be drawn on.
pub(super) fn watch(connected: &Connected, from: &str, every: Duration) -> Result<(), CommandError> {
    let failed = |e: io::Error| CommandError::Failed(format!("the terminal cannot be drawn on: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // Signals are heard before the terminal is changed.
    let mut ears = {
        let _inside = runtime.enter();
        Ears::open().map_err(failed)?
    };
    let terminal = Terminal::enter().map_err(failed)?;
    let drawn = runtime.block_on(draw(connected, from, every, &mut ears));
    drop(terminal);
    // The thread that reads keys would be waited for.
    runtime.shutdown_background();
    drawn.map_err(failed)
}

async fn draw(connected: &Connected, from: &str, every: Duration, ears: &mut Ears) -> io::Result<()> {
    let mut view = View { from: from.to_owned(), every, stopped: false, known: None, failure: None };
    let mut ticks = paced(every);
    let mut is_due = true;
    loop {
        if std::mem::take(&mut is_due) {
            // A gateway that does not answer must not hold up whoever wants to end the view.
            tokio::select! {
                () = view.ask(connected) => {}
                () = ears.end() => return Ok(()),
            }
        }
        view.draw()?;
        match ears.hear(&mut ticks).await {
            Heard::End | Heard::Key(b'q' | b'Q' | CONTROL_D) => return Ok(()),
            Heard::Key(b'p') => view.stopped = !view.stopped,
            Heard::Key(b' ') => is_due = true,
            Heard::Key(b'+') => ticks = view.take(view.every / 2),
            Heard::Key(b'-') => ticks = view.take(view.every * 2),
            Heard::Key(_) | Heard::Resized => {}
            Heard::Due => is_due = !view.stopped,
        }
    }
}

struct View {
    from: String,
    every: Duration,
    stopped: bool,
    known: Option<Status>,
    /// Why the last question had no answer.
    failure: Option<String>,
}

impl View {
    async fn ask(&mut self, connected: &Connected) {
        match Status::read_within(connected).await {
            Ok(status) => (self.known, self.failure) = (Some(status), None),
            Err(e) => self.failure = Some(e.to_string()),
        }
    }

    fn take(&mut self, every: Duration) -> Interval {
        let (least, most) = EVERY_S_BOUNDS;
        self.every = every.clamp(Duration::from_secs_f64(least), Duration::from_secs_f64(most));
        paced(self.every)
    }

    fn draw(&self) -> io::Result<()> {
        let (width, height) = size();
        let look = Look { width, height: height.saturating_sub(2), colour: has_colours() };
        let mut lines = self.known.as_ref().map(|status| Screen::of(status, look)).unwrap_or_default();
        lines.resize(look.height, String::new());
        let state = match (&self.failure, self.stopped) {
            (Some(failure), _) => failure.clone(),
            (None, true) => "stopped; p goes on".to_owned(),
            (None, false) => format!("every {:.1} s", self.every.as_secs_f64()),
        };
        let foot = format!("{}  {state}  q ends, p stops, space asks, + - interval", self.from);
        let foot: String = foot.chars().filter(|c| !c.is_control()).take(width).collect();
        let mut page = HOME.to_owned();
        for line in &lines {
            page.push_str(line);
            page.push_str(REST_OF_LINE);
        }
        page.push_str(&foot);
        page.push_str("\x1b[K");
        page.push_str(REST_OF_SCREEN);
        write(&page)
    }
}
