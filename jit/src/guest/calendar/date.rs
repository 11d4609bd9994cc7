//! JavaScript dates in UTC.

/// Milliseconds in a day.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Largest distance from 1970, in milliseconds, that a date can have.
const MAX_MS: i64 = 8_640_000_000_000_000;
/// Years and months beyond these make no date, whatever the other fields would take back.
const MAX_YEAR_FIELD: i64 = 1_000_000;
const MAX_MONTH_FIELD: i64 = 10_000_000;

/// A date, never the invalid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date(i64);

impl Date {
    /// The date `ms` milliseconds after 1970; nothing out of range.
    pub fn from_ms(ms: i64) -> Option<Self> {
        (-MAX_MS..=MAX_MS).contains(&ms).then_some(Self(ms))
    }

    /// What `new Date(year, month, day, hour, minute, second)` makes; months count from 0. Years 0 to 99 mean 1900 to
    /// 1999.
    pub fn from_fields(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3]) -> Option<Self> {
        let year = if (0..=99).contains(&year) { year + 1900 } else { year };
        if year.abs() > MAX_YEAR_FIELD || month.abs() > MAX_MONTH_FIELD {
            return None;
        }
        let days = days_before_month(year + month.div_euclid(12), month.rem_euclid(12)) + day - 1;
        // Fields come from 32-bit numbers, so the sum is far from overflowing.
        Self::from_ms(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000)
    }

    /// The date `days` later.
    pub fn plus_days(self, days: i64) -> Option<Self> {
        Self::from_ms(self.0 + days * DAY_MS)
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> i64 {
        self.0
    }

    fn days(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// Year, month from 0, and day of the month from 1.
    pub fn year_month_day(self) -> (i32, i32, i32) {
        // Years that begin in March have their leap day last, so months have a regular length pattern. Counted from
        // 0000-03-01, in cycles of 400 years.
        let days = self.days() + 719_468;
        let cycle = days.div_euclid(146_097);
        let day_of_cycle = days.rem_euclid(146_097);
        let year_of_cycle =
            (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = (march_month + 2) % 12;
        let year = cycle * 400 + year_of_cycle + i64::from(month < 2);
        (year as i32, month as i32, day as i32)
    }

    /// Hour, minute, second.
    pub fn time(self) -> [i32; 3] {
        let seconds = self.0.div_euclid(1000).rem_euclid(86_400) as i32;
        [seconds / 3600, seconds / 60 % 60, seconds % 60]
    }

    /// Day of the week; Sunday is 0.
    pub fn weekday(self) -> i32 {
        (self.days() + 4).rem_euclid(7) as i32
    }

    /// Day of the year, from 0.
    pub fn day_of_year(self) -> i32 {
        let (year, ..) = self.year_month_day();
        (self.days() - days_before_month(year.into(), 0)) as i32
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year_month_day().0
    }
}

/// Whether `year` has a leap day.
pub(super) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970 to the start of a month, 0 to 11.
fn days_before_month(year: i64, month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    // 719,162 days lie between the year 1 and 1970.
    let new_year = past * 365 + leap_days - 719_162;
    new_year + BEFORE[month as usize] + i64::from(month > 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_lead_back_to_the_date(ms in -MAX_MS..=MAX_MS) {
            let date = Date(ms);
            let (year, month, day) = date.year_month_day();
            prop_assume!(!(0..=99).contains(&year));
            let [hour, minute, second] = date.time().map(i64::from);
            let back = Date::from_fields(year.into(), month.into(), day.into(), [hour, minute, second]);
            prop_assert_eq!(back, Some(Date(ms.div_euclid(1000) * 1000)));
            prop_assert!((0..=365).contains(&date.day_of_year()));
        }
    }

    #[test]
    fn years_below_100_are_in_the_20th_century() {
        assert_eq!(Date::from_fields(5, 0, 1, [0; 3]).expect("a date").year(), 1905);
        assert_eq!(Date::from_fields(100, -1, 1, [0; 3]).expect("a date").year_month_day(), (99, 11, 1));
    }
}
