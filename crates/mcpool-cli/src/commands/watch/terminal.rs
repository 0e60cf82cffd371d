//! The terminal while the table has it: its keys come one by one, and another screen is shown.

use std::{io, time::SystemTime};

use mcpool::ServerStatus;
use ratatui::{
    DefaultTerminal, TerminalOptions, Viewport,
    crossterm::{
        execute,
        terminal::{self, EnterAlternateScreen},
    },
    layout::{Rect, Size},
};

use crate::render::{
    out::{MAX_COLUMNS, MAX_ROWS},
    screen::{Details, Screen},
};

/// Gives the terminal back when it is dropped.
pub(super) struct Terminal {
    drawn: DefaultTerminal,
    area: Rect,
}

impl Terminal {
    pub(super) fn take() -> io::Result<Self> {
        let area = bounded(terminal::size()?.into());
        // A terminal that believes every size would keep a cell for each place.
        let viewport = Viewport::Fixed(area);
        let taken = ratatui::try_init_with_options(TerminalOptions { viewport })
            .and_then(|drawn| execute!(io::stdout(), EnterAlternateScreen).map(|()| drawn));
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
}

/// The part of a terminal of this size that is drawn on.
fn bounded(size: Size) -> Rect {
    Rect::new(0, 0, size.width.min(MAX_COLUMNS), size.height.min(MAX_ROWS))
}
