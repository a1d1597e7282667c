use proptest::prelude::*;

use super::*;

fn check(table: &[(&str, &str)]) {
    for (written, canonical) in table {
        let quantity: Quantity = written.parse().unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(quantity.to_string(), *canonical, "{written}");
        assert_eq!(canonical.parse::<Quantity>().expect("a canonical form is a quantity").to_string(), *canonical);
    }
}

#[test]
fn a_quantity_is_written_with_the_largest_suffix_that_leaves_a_whole_number() {
    check(&[
        ("0", "0"),
        ("-0", "0"),
        ("0Ki", "0"),
        ("04", "4"),
        ("+1", "1"),
        (".5", "500m"),
        ("0.5", "500m"),
        ("-0.5", "-500m"),
        ("1.", "1"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1000000", "1M"),
        ("3000000000", "3G"),
        ("1024", "1024"),
        ("1E", "1E"),
        ("1000E", "1000E"),
        ("10n", "10n"),
        ("0.1n", "1n"),
        ("1.00000000001", "1000000001n"),
        ("128974848000m", "128974848"),
    ]);
}

#[test]
fn a_quantity_keeps_its_notation() {
    check(&[
        ("1024Ki", "1Mi"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("1.5Gi", "1536Mi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1.1Gi", "1181116006400m"),
        ("8Ei", "9223372036854775807"),
        ("1e9", "1e9"),
        ("2E9", "2e9"),
        ("1e1", "10"),
        ("12e4", "120e3"),
        ("1e-3", "1e-3"),
        ("5e-1", "500e-3"),
    ]);
}

#[test]
fn large_amounts_are_capped_only_where_the_short_form_ends() {
    check(&[
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775807"),
        ("100E", "100E"),
        ("99999999999999999999999", "9223372036854775807"),
    ]);
}

#[test]
fn what_is_no_quantity_says_why() {
    for (text, error) in [
        ("", QuantityError::Format),
        ("abc", QuantityError::Format),
        ("1 Gi", QuantityError::Format),
        ("1.2.3", QuantityError::Format),
        ("1KB", QuantityError::Format),
        ("--1", QuantityError::Suffix),
        ("1i", QuantityError::Suffix),
        ("1mm", QuantityError::Suffix),
        ("1Kie", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
    }
}

#[test]
fn rounding_goes_away_from_zero() {
    let quantity = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!(quantity("0.0015").rounded_to_milli().to_string(), "2m");
    assert_eq!(quantity("-0.0015").rounded_to_milli().to_string(), "-2m");
    assert_eq!(quantity("1.5").value(), 2);
    assert_eq!(quantity("-1.5").value(), -2);
    assert_eq!(quantity("1.5").milli_value(), 1500);
}

#[test]
fn sums_keep_the_notation_of_the_left_side() {
    let quantity = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!((quantity("1Gi") + quantity("1024")).to_string(), "1048577Ki");
    assert_eq!((Quantity::ZERO + quantity("1Gi")).to_string(), "1Gi");
    assert_eq!((quantity("1") - quantity("0.25")).to_string(), "750m");
    assert_eq!([quantity("1"), quantity("2m")].into_iter().sum::<Quantity>().to_string(), "1002m");
}

proptest! {
    #[test]
    fn reading_never_panics(text in "[-+]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,20}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn the_canonical_form_is_the_same_amount(nanos in any::<i64>(), scale in 0_usize..10) {
        let text = format!("{nanos}{}", ["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "e-3"][scale]);
        let quantity: Quantity = text.parse().expect("a quantity");
        prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
    }
}
