//! Charts as SVG: axes with units, a title, a legend. On a ground of their own, so that they can be read on light pages and dark ones.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
/// Told apart by those who do not see all colours (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line through the points.
    Line,
    /// The same, dashed and grey: what others are to be compared with.
    Reference,
    /// Dots.
    Dots,
    /// Bars from the axis to each point.
    Bars,
}

/// A name in the legend and points.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// Left to right.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A series.
    pub fn new(name: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), style, points }
    }
}

/// Where there is room for the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// Above what is on the left.
    TopLeft,
    /// Above what is on the right.
    TopRight,
    /// Between what is above and below on the right.
    MiddleRight,
    /// Below what is on the right.
    BottomRight,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What lies to the right, with its unit.
    pub x_label: String,
    /// What goes up, with its unit.
    pub y_label: String,
    /// The least and the greatest.
    pub x: (f64, f64),
    /// What to write at places of the axis; nothing: round numbers.
    pub x_names: Vec<(f64, String)>,
    /// The least and the greatest.
    pub y: (f64, f64),
    /// In the order of the legend. One without a name belongs to the one before it.
    pub series: Vec<Series>,
    /// Vertical lines, each with a text.
    pub marks: Vec<(f64, String)>,
    /// Where the legend is.
    pub legend: Corner,
}

impl Chart {
    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, self.svg())?;
        Ok(())
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let (across, up) = (share(x, self.x), share(y, self.y));
        (LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))
    }

    fn svg(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#fff\"/>\n\
             <text x=\"{}\" y=\"22\" text-anchor=\"middle\" font-size=\"14\">{}</text>",
            WIDTH / 2.0,
            escaped(&self.title)
        );
        self.axes(&mut out);
        for (x, text) in &self.marks {
            let ((x, top), (_, bottom)) = (self.at((*x, self.y.1)), self.at((*x, self.y.0)));
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#999\" \
                 stroke-dasharray=\"2 3\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>",
                x - 4.0,
                bottom - 8.0,
                escaped(text)
            );
        }
        let named = self.series.iter().filter(|series| !series.name.is_empty()).count() as f64;
        let (left, mut y) = match self.legend {
            Corner::TopLeft => (LEFT + 12.0, TOP + 16.0),
            Corner::TopRight => (WIDTH - RIGHT - 290.0, TOP + 16.0),
            Corner::MiddleRight => (WIDTH - RIGHT - 130.0, TOP.midpoint(HEIGHT - BOTTOM)),
            Corner::BottomRight => (WIDTH - RIGHT - 290.0, HEIGHT - BOTTOM - 16.0 * named),
        };
        let (mut colours, mut colour) = (COLOURS.iter().cycle(), "#000");
        for series in &self.series {
            let dash = if series.style == Style::Reference { " stroke-dasharray=\"5 4\"" } else { "" };
            // What has no name belongs to what is before it.
            if series.style == Style::Reference {
                colour = "#777";
            } else if !series.name.is_empty() {
                colour = colours.next().unwrap_or(&"#000");
            }
            self.draw(&mut out, series, colour);
            if series.name.is_empty() {
                continue;
            }
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" y1=\"{:.1}\" x2=\"{}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"3\"{dash}/>\
                 <text x=\"{}\" y=\"{y:.1}\">{}</text>",
                y - 4.0,
                left + 18.0,
                y - 4.0,
                left + 24.0,
                escaped(&series.name)
            );
            y += 16.0;
        }
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String) {
        let numbers = ticks(self.x).into_iter().map(|tick| (tick, short(tick)));
        let places: Vec<(f64, String)> = if self.x_names.is_empty() { numbers.collect() } else { self.x_names.clone() };
        for (tick, text) in places {
            let ((x, top), (_, bottom)) = (self.at((tick, self.y.1)), self.at((tick, self.y.0)));
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#e8e8e8\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                escaped(&text)
            );
        }
        for tick in ticks(self.y) {
            let ((left, y), (right, _)) = (self.at((self.x.0, tick)), self.at((self.x.1, tick)));
            let _ = writeln!(
                out,
                "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#e8e8e8\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                short(tick)
            );
        }
        let ((left, bottom), (right, top)) = (self.at((self.x.0, self.y.0)), self.at((self.x.1, self.y.1)));
        let _ = writeln!(
            out,
            "<path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" stroke=\"#222\" fill=\"none\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"16\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {:.1})\">{}</text>",
            left.midpoint(right),
            HEIGHT - 12.0,
            escaped(&self.x_label),
            top.midpoint(bottom),
            top.midpoint(bottom),
            escaped(&self.y_label)
        );
    }

    fn draw(&self, out: &mut String, series: &Series, colour: &str) {
        let points = series.points.iter().map(|&point| self.at(point));
        match series.style {
            Style::Line | Style::Reference => {
                let path: Vec<String> = points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
                let dash = if series.style == Style::Reference { " stroke-dasharray=\"5 4\"" } else { "" };
                let _ = writeln!(
                    out,
                    "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"1.8\" fill=\"none\"{dash}/>",
                    path.join("L")
                );
            }
            Style::Dots => points.for_each(|(x, y)| {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\" fill=\"{colour}\" fill-opacity=\"0.6\"/>"
                );
            }),
            Style::Bars => {
                let bottom = self.at((self.x.0, self.y.0)).1;
                let wide = (WIDTH - LEFT - RIGHT) / series.points.len().max(1) as f64 * 0.8;
                points.for_each(|(x, y)| {
                    let _ = writeln!(
                        out,
                        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
                         fill-opacity=\"0.5\"/>",
                        x - wide / 2.0,
                        bottom - y
                    );
                });
            }
        }
    }
}

/// Round numbers between the ends, some five of them.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|&step| step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|at| at as f64 * step).collect()
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The points of an empirical distribution function, no more than a chart can show.
pub fn distribution(mut values: Vec<f64>) -> Vec<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let step = (count / 200).max(1);
    let kept = values.iter().enumerate().filter(|(at, _)| at % step == 0 || at + 1 == count);
    kept.map(|(at, &value)| (value, (at + 1) as f64 / count as f64)).collect()
}
