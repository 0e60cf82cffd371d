//! The terminal while the table has it: its keys come one by one, and another screen is shown.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use mcpool::ServerStatus;
use ratatui::{
    DefaultTerminal, TerminalOptions, Viewport,
    crossterm::{
        execute,
        terminal::{self, EnterAlternateScreen},
    },
    layout::{Rect, Size},
};

#[cfg(unix)]
use crate::render::out;
use crate::render::{
    out::{MAX_COLUMNS, MAX_ROWS},
    screen::{Details, Screen},
};

/// Whether the table has it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back when it is dropped.
pub(super) struct Terminal {
    drawn: DefaultTerminal,
    area: Rect,
}

impl Terminal {
    pub(super) fn take() -> io::Result<Self> {
        let area = bounded(terminal::size()?.into());
        TAKEN.store(true, Ordering::Release);
        // A terminal that believes every size would keep a cell for each place.
        let viewport = Viewport::Fixed(area);
        let taken =
            ratatui::try_init_with_options(TerminalOptions { viewport }).and_then(|mut drawn| {
                execute!(drawn.backend_mut(), EnterAlternateScreen).map(|()| drawn)
            });
        match taken {
            Ok(drawn) => Ok(Self { drawn, area }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn draw(
        &mut self,
        screen: &mut Screen,
        servers: &[ServerStatus],
        details: Option<&Details>,
    ) -> io::Result<()> {
        let area = bounded(self.drawn.size()?);
        if area != self.area {
            self.drawn.resize(area)?;
            self.area = area;
        }
        self.drawn
            .draw(|frame| screen.draw(frame, servers, details, SystemTime::now()))?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    ratatui::restore();
    TAKEN.store(false, Ordering::Release);
}

/// Gives it back as far as that takes no waiting: its reader may have gone, and the thread of the
/// table may wait for it.
#[cfg(unix)]
pub(crate) fn give_back_at_once() {
    if TAKEN.load(Ordering::Acquire) {
        let _ = terminal::disable_raw_mode();
        out::leave_screen_at_once();
    }
}

/// The part of a terminal of this size that is drawn on.
fn bounded(size: Size) -> Rect {
    Rect::new(0, 0, size.width.min(MAX_COLUMNS), size.height.min(MAX_ROWS))
}
