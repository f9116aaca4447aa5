//! Exact fractions, and the few places where they are rounded.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};
use serde::Deserialize;

/// The rounding of money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rounding {
    #[default]
    HalfEven,
    HalfUp,
    Down,
    Up,
}

/// A whole number as a fraction.
pub(crate) fn whole(number: i128) -> BigRational {
    BigRational::from_integer(BigInt::from(number))
}

/// An amount in nano-units as a multiple of `step` nano-units.
pub(crate) fn rounded(nanos: &BigRational, step: i128, rounding: Rounding) -> i128 {
    let steps = nanos / whole(step);
    let size = steps.abs();
    let floor = size.floor().to_integer();
    let rest = size - BigRational::from_integer(floor.clone());
    let half = BigRational::new(BigInt::from(1), BigInt::from(2));
    let away = match rounding {
        Rounding::Down => false,
        Rounding::Up => !rest.is_zero(),
        Rounding::HalfUp => rest >= half,
        Rounding::HalfEven => rest > half || (rest == half && floor.is_odd()),
    };
    let size = floor + BigInt::from(u8::from(away));
    let size = size.to_i128().expect("an amount of less than 2^127 steps");
    let sign = if nanos.is_negative() { -1 } else { 1 };
    sign * size * step
}

/// Nano-units in the last of `digits` digits after the point.
pub(crate) fn step_of_digits(digits: u32) -> i128 {
    10_i128.pow(9 - digits)
}

/// The nano-units of a currency's smallest coin.
pub(crate) fn coin(currency: &str) -> i128 {
    let digits = match currency {
        "JPY" | "KRW" | "CLP" | "ISK" | "VND" => 0,
        "KWD" | "BHD" | "JOD" | "OMR" | "TND" => 3,
        "EUR" | "USD" | "GBP" | "CHF" => 2,
        other => panic!("the oracle knows no coin of {other}"),
    };
    step_of_digits(digits)
}

/// `total` shared by `weights`, in multiples of `step`, by largest remainder; ties go to the first.
pub(crate) fn shared(total: i128, weights: &[i128], step: i128) -> Vec<i128> {
    let sum: i128 = weights.iter().sum();
    let exact = |weight: i128| whole(total) * whole(weight) / whole(sum) / whole(step);
    let floors: Vec<i128> = weights
        .iter()
        .map(|&weight| exact(weight).floor().to_integer().to_i128().expect("a share of the total"))
        .collect();
    let missing = total / step - floors.iter().sum::<i128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&place| {
        let rest = exact(weights[place]) - whole(floors[place]);
        (std::cmp::Reverse(rest), place)
    });
    let mut shares: Vec<i128> = floors.iter().map(|floor| floor * step).collect();
    for &place in order.iter().take(usize::try_from(missing).expect("less than one step a share")) {
        shares[place] += step;
    }
    shares
}

/// Reads a number of a book as a fraction: `3`, `"0.0475"`, `"1/3"`.
pub(crate) fn parse(number: &serde_json::Value) -> BigRational {
    let text = match number {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        other => panic!("{other} is no number of a book"),
    };
    let (above, below) = text.split_once('/').unwrap_or((&text, "1"));
    decimal(above) / decimal(below)
}

fn decimal(text: &str) -> BigRational {
    let (before, after) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{before}{after}").parse().expect("digits");
    BigRational::new(
        digits,
        BigInt::from(10).pow(u32::try_from(after.len()).expect("a short text")),
    )
}
