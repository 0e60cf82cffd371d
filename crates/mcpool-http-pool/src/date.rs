//! Dates in headers.

use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;

/// How a date is written behind its weekday.
const FORMS: [&str; 4] = [
    // The forms of RFC 9110, section 5.6.7: IMF-fixdate, RFC 850, asctime.
    "%d %b %Y %H:%M:%S GMT",
    "%d-%b-%y %H:%M:%S GMT",
    "%b %e %H:%M:%S %Y",
    // That of the first cookies.
    "%d-%b-%Y %H:%M:%S GMT",
];

/// Reads a date of HTTP. The weekday is not compared with the date. One before 1970 is read as the
/// beginning of 1970: a cookie that expires then is one to forget.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    let (_weekday, date) = text.split_once(' ')?;
    let mut read = FORMS
        .iter()
        .filter_map(|form| NaiveDateTime::parse_from_str(date, form).ok());
    let seconds = read.next()?.and_utc().timestamp();
    let seconds = u64::try_from(seconds).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_date_is_read() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, want) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", at(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", at(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", at(784_111_777)),
            ("Wed Nov 16 08:49:37 1994", at(784_975_777)),
            ("Sun, 06-Nov-1994 08:49:37 GMT", at(784_111_777)),
            ("Thursday, 01-Jan-70 00:00:00 GMT", at(0)),
            ("Tuesday, 31-Dec-69 23:59:59 GMT", at(3_155_759_999)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", at(1_483_228_799)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", at(784_111_777)),
            ("Mon, 01 Jan 1601 00:00:00 GMT", at(0)),
            ("Wed, 31-Dec-1969 23:59:59 GMT", at(0)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT+1", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("06 Nov 1994 08:49:37 GMT", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), want, "{text:?}");
        }
    }
}
