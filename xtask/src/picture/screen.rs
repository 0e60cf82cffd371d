//! A terminal's screen, as far as `mcpool watch` writes to one: cells with colours, moved over by
//! the control sequences of ECMA-48 that ratatui uses.

/// How one cell looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Of the sixteen colours; `None` is the terminal's own.
    pub(crate) colour: Option<u8>,
    pub(crate) bold: bool,
    pub(crate) dim: bool,
    pub(crate) reversed: bool,
}

/// The screen.
pub(crate) struct Screen {
    columns: usize,
    cells: Vec<(char, Style)>,
    at: (usize, usize),
    style: Style,
    /// Bytes of a character or a sequence that is not whole yet.
    rest: Vec<u8>,
}

impl Screen {
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            cells: vec![(' ', Style::default()); columns * rows],
            at: (0, 0),
            style: Style::default(),
            rest: Vec::new(),
        }
    }

    /// The rows, from the top.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[(char, Style)]> {
        self.cells.chunks(self.columns)
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// What stands on it, without colours.
    pub(crate) fn text(&self) -> String {
        let rows = self.rows().map(|row| {
            let row: String = row.iter().map(|(c, _)| c).collect();
            row.trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// Takes what a program wrote.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let (good, bad) = bytes.split_at(error.valid_up_to());
                self.rest = bad.to_vec();
                std::str::from_utf8(good).unwrap_or_default()
            }
        };
        let mut left = whole;
        while let Some(first) = left.chars().next() {
            let Some(taken) = self.take(left) else {
                // A sequence whose end is still to come.
                let later = std::mem::take(&mut self.rest);
                self.rest = [left.as_bytes(), &later].concat();
                return;
            };
            left = left.get(taken.max(first.len_utf8())..).unwrap_or_default();
        }
    }

    /// Takes one character or sequence; gives its length, or nothing while it is not whole.
    fn take(&mut self, text: &str) -> Option<usize> {
        let first = text.chars().next()?;
        match first {
            '\u{1b}' => self.sequence(text),
            '\r' => {
                self.at.1 = 0;
                Some(1)
            }
            '\n' => {
                self.at.0 += 1;
                Some(1)
            }
            c if c.is_control() => Some(c.len_utf8()),
            c => {
                let (row, column) = self.at;
                let cell = row * self.columns + column;
                if let (true, Some(cell)) = (column < self.columns, self.cells.get_mut(cell)) {
                    *cell = (c, self.style);
                }
                self.at.1 += 1;
                Some(c.len_utf8())
            }
        }
    }

    /// A control sequence: `ESC [ parameters final`; others are skipped.
    fn sequence(&mut self, text: &str) -> Option<usize> {
        let Some(body) = text.strip_prefix("\u{1b}[") else {
            // `ESC x`, of which none matters here.
            return (text.len() > 1).then(|| 1 + text.chars().nth(1).map_or(0, char::len_utf8));
        };
        let end = body.find(|c: char| ('@'..='~').contains(&c))?;
        let (parameters, rest) = body.split_at(end);
        let numbers: Vec<usize> = parameters
            .split([';', ':'])
            .map(|number| number.parse().unwrap_or(0))
            .collect();
        let number = |at: usize, default: usize| match numbers.get(at) {
            None | Some(0) => default,
            Some(number) => *number,
        };
        match rest.chars().next() {
            Some('H' | 'f') => self.at = (number(0, 1) - 1, number(1, 1) - 1),
            Some('A') => self.at.0 = self.at.0.saturating_sub(number(0, 1)),
            Some('B') => self.at.0 += number(0, 1),
            Some('C') => self.at.1 += number(0, 1),
            Some('D') => self.at.1 = self.at.1.saturating_sub(number(0, 1)),
            Some('G') => self.at.1 = number(0, 1) - 1,
            Some('J') => self.cells.fill((' ', Style::default())),
            Some('K') => {
                let start = self.at.0 * self.columns + self.at.1;
                let end = (self.at.0 + 1) * self.columns;
                if let Some(cells) = self.cells.get_mut(start..end) {
                    cells.fill((' ', Style::default()));
                }
            }
            Some('m') => self.paint(&numbers),
            _ => {}
        }
        Some("\u{1b}[".len() + end + 1)
    }

    /// Select graphic rendition.
    fn paint(&mut self, numbers: &[usize]) {
        let mut numbers = numbers.iter().copied();
        while let Some(number) = numbers.next() {
            let style = &mut self.style;
            match number {
                0 => *style = Style::default(),
                1 => style.bold = true,
                2 => style.dim = true,
                7 => style.reversed = true,
                22 => (style.bold, style.dim) = (false, false),
                27 => style.reversed = false,
                30..=37 => style.colour = u8::try_from(number - 30).ok(),
                90..=97 => style.colour = u8::try_from(number - 90 + 8).ok(),
                39 => style.colour = None,
                // An indexed colour; those over fifteen are not used here.
                38 if numbers.next() == Some(5) => {
                    style.colour = numbers.next().and_then(|index| u8::try_from(index).ok());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_put_where_the_cursor_is() {
        let mut screen = Screen::new(6, 2);
        screen.feed(b"\x1b[2;3Hab\x1b[1;1H\x1b[32mc\x1b[0m");
        assert_eq!(screen.text(), "c\n  ab");
        let first = screen.rows().next().and_then(|row| row.first().copied());
        assert_eq!(first.map(|(_, style)| style.colour), Some(Some(2)));
    }

    #[test]
    fn what_comes_in_pieces_is_put_together() {
        let mut screen = Screen::new(6, 1);
        for byte in "\u{1b}[1;2H\u{1b}[1;38;5;3m\u{2191}x".as_bytes() {
            screen.feed(&[*byte]);
        }
        assert_eq!(screen.text(), " \u{2191}x");
        let style = Style {
            colour: Some(3),
            bold: true,
            ..Style::default()
        };
        assert_eq!(screen.rows().next().map(|row| row[2]), Some(('x', style)));
    }

    #[test]
    fn a_line_is_erased_from_the_cursor_on() {
        let mut screen = Screen::new(4, 1);
        screen.feed(b"abcd\x1b[1;2H\x1b[K");
        assert_eq!(screen.text(), "a");
    }
}
