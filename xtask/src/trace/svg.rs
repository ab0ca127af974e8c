//! A trace as a timeline: a row for each call, its bar where and as long as it
//! was, to scale.

use super::{Call, Trace};

const ROW: usize = 16;
const TEXT: usize = 620;
const WIDTH: usize = 1400;
/// Longest text in front of a bar, in characters.
const MAX_TEXT: usize = 96;
/// Bars are at least as wide, to be seen.
const LEAST: f64 = 1.5;

/// The picture.
pub fn timeline(trace: &Trace) -> String {
    let ends = trace.calls.iter().map(|call| call.start + call.duration);
    let end = trace
        .milliseconds(ends.max().unwrap_or_default())
        .max(0.001);
    let height = (trace.calls.len() + 3) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    svg += &axis(end, height);
    for (row, call) in trace.calls.iter().enumerate() {
        svg += &bar(trace, call, (row + 2) * ROW, end);
    }
    svg + "</svg>\n"
}

/// Where a time is, in pixels from the left.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn place(time: f64, end: f64) -> f64 {
    TEXT as f64 + time / end * (WIDTH - TEXT - 20) as f64
}

/// Ten lines with times.
fn axis(end: f64, height: usize) -> String {
    let ticks = (0..=10).map(|tick| {
        let time = end * f64::from(tick) / 10.0;
        let x = place(time, end);
        format!(
            "<line x1=\"{x:.1}\" y1=\"{ROW}\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"12\" text-anchor=\"middle\">{time:.1} ms</text>\n"
        )
    });
    ticks.collect()
}

fn bar(trace: &Trace, call: &Call, y: usize, end: f64) -> String {
    let start = trace.milliseconds(call.start);
    let took = trace.milliseconds(call.duration);
    let x = place(start, end);
    let width = (place(start + took, end) - x).max(LEAST);
    let color = match &*call.status {
        "SUCCESS" | "-" => "#2a7",
        "NOT_FOUND" | "BUFFER_TOO_SMALL" => "#999",
        _ => "#c33",
    };
    let indent = call.depth * 12;
    let text: String = call.text().chars().take(MAX_TEXT).collect();
    let (text, whole) = (escaped(&text), escaped(&call.text()));
    let (middle, top) = (y + 11, y + 2);
    format!(
        "<g><title>{whole}: {start:.3} ms, {took:.3} ms</title>\
         <text x=\"{}\" y=\"{middle}\">{} {text}</text>\
         <rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"12\" fill=\"{color}\"/></g>\n",
        4 + indent,
        call.number,
    )
}

/// Text as the content of an element (XML 1.0 §2.4).
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_bar() {
        let console = "ovmf-lite: trace 1 0 A(\"<\") = SUCCESS @0 +1\n\
                       ovmf-lite: trace 2 1 B(0x0) = NOT_FOUND @1 +1\n";
        let svg = timeline(&Trace::read(console));
        assert_eq!(svg.matches("<g>").count(), 2);
        assert!(svg.contains("A(\"&lt;\")") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_makes_an_empty_picture() {
        assert_eq!(timeline(&Trace::default()).matches("<g>").count(), 0);
    }
}
