//! Statistics of values from several rounds. The functions panic if there are no values.

/// The median. For an even number of values, the greater of the two middle values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}

/// The minimum and the maximum.
pub(crate) fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let values = sorted(values);
    (values[0], values[values.len() - 1])
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}
