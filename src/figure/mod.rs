//! Pictures in SVG 1.1, with one palette and one style of axes: plots with lines and points, and matrices of counts.
//!
//! The pictures need no script and no font, follow the reader's preference for a light or dark page, and have a description for
//! screen readers. The palette is that of Okabe and Ito ("Color Universal Design", 2008) without its yellow and black, which
//! people with any of the common colour vision deficiencies can tell apart; series also differ in the shape of their points and
//! the pattern of their lines, for prints without colour.

mod axis;
mod grid;
#[cfg(feature = "explain")]
mod heat;
mod matrix;
mod plot;
#[cfg(feature = "explain")]
mod raster;
#[cfg(feature = "explain")]
mod strips;
#[cfg(feature = "explain")]
mod waves;

pub use axis::{Axis, Scale};
pub use grid::{Cell, Grid, Panel};
#[cfg(feature = "explain")]
pub use heat::{FirstRow, Heat};
pub use matrix::{Matrix, matrices};
pub use plot::{Plot, Point, Series};
#[cfg(feature = "explain")]
pub use raster::{Palette, Raster};
#[cfg(feature = "explain")]
pub use strips::{COLUMNS, Content, Strip, Strips};
#[cfg(feature = "explain")]
pub use waves::{Wave, Waves};

/// The rules of all pictures. Colours of series are the classes `c0` to `c5`, as line (`stroke`) or point (`fill`).
const STYLE: &str = "<style>\
.fig{font-family:system-ui,sans-serif;font-size:12px;color:#24292f}\
.fig text{fill:currentColor}.fig .t{font-weight:600;font-size:14px}.fig .c{text-anchor:middle}.fig .e{text-anchor:end}.fig .b{font-weight:600}\
.fig .grid{stroke:#d0d7de;stroke-width:1}.fig .axis{stroke:#57606a;stroke-width:1}\
.fig .line{fill:none;stroke-width:2;stroke-linejoin:round}.fig .bar{stroke-width:1.3}\
.fig .c0{--k:#0072b2}.fig .c1{--k:#d55e00}.fig .c2{--k:#009e73}.fig .c3{--k:#b0568f}.fig .c4{--k:#b27700}.fig .c5{--k:#57606a}\
.fig .s{stroke:var(--k)}.fig .f{fill:var(--k)}.fig .h{fill:none;stroke:var(--k);stroke-width:1.6;pointer-events:all}\
.fig .o{font-weight:600;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\
.fig .cell{stroke:#8c959f;stroke-width:.4}\
@media(prefers-color-scheme:dark){.fig{color:#e6edf3}.fig .o{stroke:#0d1117}.fig .grid{stroke:#30363d}.fig .axis{stroke:#8b949e}\
.fig .c0{--k:#56b4e9}.fig .c1{--k:#f0883e}.fig .c2{--k:#3fcf9f}.fig .c3{--k:#e3a1c8}.fig .c4{--k:#e3b341}.fig .c5{--k:#8b949e}}\
</style>\n";

/// Series that the palette can tell apart.
pub const COLOURS: usize = 6;

/// The beginning of a picture of `width` times `height` units; `description` is for screen readers.
fn open(width: usize, height: usize, description: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fig\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{STYLE}",
        escaped(description)
    )
}

/// `text` as XML has it, in content and between quotation marks.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // XML 1.0 has no way to write the other control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// At most `most` characters, of which the last is `…` if there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// The width of `text` at 12 units, as most sans-serif fonts have it.
fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_safe_in_xml() {
        assert_eq!(escaped("a<b> & \"c\"\u{7}"), "a&lt;b&gt; &amp; &quot;c&quot; ");
        assert_eq!((shortened("five", 4), shortened("seven", 4)), ("five".into(), "sev…".into()));
    }
}
