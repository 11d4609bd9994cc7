//! A plot of rates over batch sizes, both on logarithmic scales, as SVG.

use std::fmt::Write as _;

/// One line of the plot.
#[derive(Clone)]
pub struct Line {
    /// What it says in the legend.
    pub name: String,
    /// A colour of CSS.
    pub colour: &'static str,
    /// Whether it is drawn in dashes.
    pub dashed: bool,
    /// Batch sizes and signatures a second, both above zero.
    pub points: Vec<(f64, f64)>,
}

/// The drawing's size and the space around the axes, in pixels.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 55.0;

/// The whole document.
pub fn svg(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_most = points().map(|point| point.0).fold(2.0, f64::max);
    let low = points().map(|point| point.1).fold(f64::MAX, f64::min).log10().floor();
    let high = points().map(|point| point.1).fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let x = |size: f64| LEFT + (WIDTH - LEFT - RIGHT) * size.log2() / x_most.log2();
    let y = |rate: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (rate.log10() - low) / (high - low);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    // Writing to a text does not fail.
    for exponent in low as i32..=high as i32 {
        let at = y(10f64.powi(exponent));
        let _ = writeln!(out, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, at + 4.0, {
            if exponent < 3 { format!("{}", 10f64.powi(exponent)) } else { format!("{}k", 10f64.powi(exponent - 3)) }
        });
    }
    for power in (0..=x_most.log2() as i32).step_by(2) {
        let (size, at) = (2f64.powi(power), x(2f64.powi(power)));
        let _ = writeln!(out, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#eee\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>", bottom + 18.0);
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">signatures in a batch</text>\n\
         <text x=\"16\" y=\"{}\" transform=\"rotate(-90 16 {})\" text-anchor=\"middle\">signatures a second</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 12.0,
        (TOP + bottom) / 2.0,
        (TOP + bottom) / 2.0
    );
    for (nth, line) in lines.iter().enumerate() {
        let path: Vec<_> = line.points.iter().map(|&(size, rate)| format!("{:.1} {:.1}", x(size), y(rate))).collect();
        let dashes = if line.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
        let stroke = format!("fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dashes}", line.colour);
        let key = TOP + 20.0 * nth as f64 + 10.0;
        let _ = writeln!(
            out,
            "<path d=\"M{}\" {stroke}/>\n<path d=\"M{} {key}h26\" {stroke}/>\n<text x=\"{}\" y=\"{}\">{}</text>",
            path.join("L"),
            right + 14.0,
            right + 46.0,
            key + 4.0,
            escaped(&line.name)
        );
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
