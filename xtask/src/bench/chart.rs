//! Bar charts as SVG: one bar a figure, its value and how many times the first
//! one it is.

use std::fmt::Write;

use crate::trace::svg::escaped;

const ROW: usize = 26;
const LABEL: usize = 190;
const BARS: usize = 380;
const WIDTH: usize = LABEL + BARS + 190;
const TOP: usize = 40;

/// A bar: its label, its value and how the value is written.
pub type Bar = (String, f64, String);

/// The chart of `bars`, the first of which is ours.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|(_, value, _)| *value).fold(0.0, f64::max);
    let height = TOP + ROW * bars.len() + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (index, (label, value, written)) in bars.iter().enumerate() {
        let y = TOP + ROW * index;
        let width = (value / most * BARS as f64).max(1.0);
        let colour = if index == 0 { "#1a7f37" } else { "#8c959f" };
        let text = y + 15;
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{}</text>",
            LABEL - 8,
            escaped(label),
            LABEL as f64 + width + 6.0,
            escaped(written)
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = bars(
            "a < b",
            &[
                ("x".into(), 1.0, "1".into()),
                ("y".into(), 4.0, "4×".into()),
            ],
        );
        assert!(svg.contains("a &lt; b") && svg.contains("4×"), "{svg}");
        assert!(
            svg.contains("width=\"95.0\"") && svg.contains("width=\"380.0\""),
            "{svg}"
        );
    }
}
