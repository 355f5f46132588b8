/// A moment in UTC as `strftime` of Python writes it in the C locale. `seconds` count from the
/// beginning of 1970. [`None`] for a directive that is not known.
pub(super) fn strftime(format: &str, seconds: i64) -> Option<String> {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    // 1970 began on a Thursday.
    let weekday = usize::try_from((days + 4).rem_euclid(7)).ok()?;
    let month_name = MONTHS[usize::try_from(month - 1).ok()?];
    let of_year = days - days_before(year, 1, 1) + 1;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        let part = match chars.next()? {
            'Y' => year.to_string(),
            'y' => format!("{:02}", year.rem_euclid(100)),
            'm' => format!("{month:02}"),
            'B' => month_name.to_owned(),
            'b' => month_name[..3].to_owned(),
            'd' => format!("{day:02}"),
            'j' => format!("{of_year:03}"),
            'A' => WEEKDAYS[weekday].to_owned(),
            'a' => WEEKDAYS[weekday][..3].to_owned(),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            '%' => "%".to_owned(),
            _ => return None,
        };
        text.push_str(&part);
    }
    Some(text)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Days from the beginning of 1970 to a date of the Gregorian calendar. Years begin in March here,
/// so that the leap day is the last. <https://howardhinnant.github.io/date_algorithms.html>
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_python_does() {
        // datetime.fromtimestamp(seconds, UTC).strftime(...)
        let all = "%Y %y %m %B %b %d %j %A %a %H %I %p %M %S %F %T %%";
        let cases = [
            (0, "1970 70 01 January Jan 01 001 Thursday Thu 00 12 AM 00 00 1970-01-01 00:00:00 %"),
            (
                1_709_211_599,
                "2024 24 02 February Feb 29 060 Thursday Thu 12 12 PM 59 59 2024-02-29 12:59:59 %",
            ),
            (
                1_798_761_599,
                "2026 26 12 December Dec 31 365 Thursday Thu 23 11 PM 59 59 2026-12-31 23:59:59 %",
            ),
        ];
        for (seconds, text) in cases {
            assert_eq!(strftime(all, seconds).as_deref(), Some(text));
        }
        assert_eq!(strftime("%Q", 0), None);
        assert_eq!(strftime("%", 0), None);
    }

    #[test]
    fn dates_go_there_and_back() {
        for days in (-200_000..200_000).step_by(37) {
            let (year, month, day) = civil(days);
            assert_eq!(days_before(year, month, day), days);
        }
    }
}
