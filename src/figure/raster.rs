//! Rasters: matrices of values as PNG pictures, with palettes that people with any of the common colour vision deficiencies can read and whose lightness grows with the value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// From values to colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Viridis: from dark blue for 0 to yellow for 1 (van der Walt and Smith, SciPy 2015).
    Viridis,
    /// From white for 0 to black for 1.
    Grey,
    /// Signed values: blue for -1, white for 0, orange for 1.
    Signed,
    /// Transparent for 0, opaque orange for 1: over another picture.
    Overlay,
}

const VIRIDIS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];
const BLUE: [u8; 3] = [0, 114, 178];
const ORANGE: [u8; 3] = [213, 94, 0];
const WHITE: [u8; 3] = [255, 255, 255];
/// The strongest overlay.
const OPAQUE: f32 = 165.0;

impl Palette {
    /// The colour of a value, as red, green, blue and opacity. Values beyond the ends have the colours of the ends, NaN that of 0.
    pub fn colour(self, value: f32) -> [u8; 4] {
        let low = if self == Palette::Signed { -1.0 } else { 0.0 };
        let v = if value.is_nan() { 0.0 } else { value.clamp(low, 1.0) };
        let opaque = |[r, g, b]: [u8; 3]| [r, g, b, 255];
        match self {
            Palette::Viridis => {
                let at = v * (VIRIDIS.len() - 1) as f32;
                let below = (at.floor() as usize).min(VIRIDIS.len() - 2);
                opaque(mixed(VIRIDIS[below], VIRIDIS[below + 1], at - below as f32))
            }
            Palette::Grey => opaque(mixed(WHITE, [0, 0, 0], v)),
            Palette::Signed if v < 0.0 => opaque(mixed(WHITE, BLUE, -v)),
            Palette::Signed => opaque(mixed(WHITE, ORANGE, v)),
            Palette::Overlay => {
                let [r, g, b] = ORANGE;
                [r, g, b, (v * OPAQUE) as u8]
            }
        }
    }
}

fn mixed(a: [u8; 3], b: [u8; 3], share: f32) -> [u8; 3] {
    std::array::from_fn(|i| (f32::from(a[i]) + share * (f32::from(b[i]) - f32::from(a[i]))).round() as u8)
}

/// A matrix of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Raster {
    /// Rows, the first at the top.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The values, row by row.
    pub values: Vec<f32>,
}

impl Raster {
    /// A matrix of values in the range of a palette.
    ///
    /// # Panics
    /// There are not `rows` times `cols` values.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Raster {
        assert_eq!(values.len(), rows * cols, "a raster has a value for each cell");
        Raster { rows, cols, values }
    }

    /// The matrix with at most `most` columns: each is the value of largest magnitude of those that it stands for.
    #[must_use]
    pub fn narrowed(&self, most: usize) -> Raster {
        if self.cols <= most || most == 0 {
            return self.clone();
        }
        let largest = |a: f32, &b: &f32| if b.abs() > a.abs() { b } else { a };
        let cell = |row: &[f32], col: usize| {
            row[col * self.cols / most..(col + 1) * self.cols / most].iter().fold(0.0, largest)
        };
        let rows = self.values.chunks_exact(self.cols.max(1));
        let values = rows.flat_map(|row| (0..most).map(move |col| cell(row, col)).collect::<Vec<_>>());
        Raster { rows: self.rows, cols: most, values: values.collect() }
    }

    /// The same with every value divided by the largest magnitude, if that is not 0.
    #[must_use]
    pub fn normalised(mut self) -> Raster {
        let most = self.values.iter().filter(|v| v.is_finite()).fold(0.0f32, |most, v| most.max(v.abs()));
        if most > 0.0 {
            self.values.iter_mut().for_each(|v| *v /= most);
        }
        self
    }

    /// The picture as a PNG file with a pixel for each cell; empty if there are no cells.
    pub fn to_png(&self, palette: Palette) -> Vec<u8> {
        let pixels: Vec<u8> = self.values.iter().flat_map(|&value| palette.colour(value)).collect();
        let write = |bytes: &mut Vec<u8>| -> Result<(), png::EncodingError> {
            let mut encoder = png::Encoder::new(bytes, self.cols as u32, self.rows as u32);
            encoder.set_color(png::ColorType::Rgba);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_compression(png::Compression::High);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&pixels)?;
            writer.finish()
        };
        let mut bytes = Vec::new();
        // Memory takes everything; what is refused is a picture without cells.
        if write(&mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    }

    /// The picture as an address that contains it.
    pub fn to_uri(&self, palette: Palette) -> String {
        format!("data:image/png;base64,{}", STANDARD.encode(self.to_png(palette)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_grows_with_the_value() {
        let lightness = |c: [u8; 4]| 0.2126 * f32::from(c[0]) + 0.7152 * f32::from(c[1]) + 0.0722 * f32::from(c[2]);
        let of = |v: i32| lightness(Palette::Viridis.colour(v as f32 / 100.0));
        assert!((0..100).all(|v| of(v) <= of(v + 1) + 0.6));
        assert_eq!(Palette::Signed.colour(0.0), [255; 4]);
        assert_eq!(Palette::Signed.colour(-7.0), [0, 114, 178, 255]);
        assert_eq!(Palette::Overlay.colour(f32::NAN)[3], 0);
    }

    #[test]
    fn a_png_has_a_pixel_for_each_cell() {
        let raster = Raster::new(2, 3, vec![0.0, 0.5, 1.0, -1.0, f32::NAN, 2.0]);
        let png = raster.to_png(Palette::Grey);
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!([pixels[0], pixels[8], pixels[12], pixels[20]], [255, 0, 255, 0]);
        assert!(Raster::new(0, 0, vec![]).to_png(Palette::Grey).is_empty());
    }

    #[test]
    fn narrower_rasters_keep_what_is_largest() {
        let raster = Raster::new(2, 4, vec![1.0, -3.0, 0.0, 2.0, 0.0, 0.0, 5.0, 1.0]).narrowed(2);
        assert_eq!((raster.cols, &raster.values[..]), (2, &[-3.0, 2.0, 0.0, 5.0][..]));
        assert_eq!(raster.normalised().values, [-0.6, 0.4, 0.0, 1.0]);
    }
}
