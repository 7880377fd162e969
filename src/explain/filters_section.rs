//! The section of a page about the filters of the first two layers.

use super::alike::Alike;
use super::error::ExplainError;
use super::filters::{Filter, FilterBank};
use super::filters_changes::{change_pictures, initial_weights};
use super::section::{Part, Picture, Section, Table};
use super::taps::{Kernel, second_kernel};
use crate::figure::{Axis, Cell, FirstRow, Grid, Heat, Palette, Panel, Plot, Point, Raster, Series};
use crate::nn::Network;
use crate::train::{TrainConfig, Weights};

/// The range of responses, in dB below the maximum of each filter.
const FLOOR: f64 = -40.0;
/// Points of a response in a small plot, and in a row of a heat map.
const POINTS: [usize; 2] = [64, 128];
/// Most small plots of a picture.
const MOST_CELLS: usize = 256;
/// Most rows of a heat map.
const MOST_ROWS: usize = 512;
/// Bands of the comparison with the mel scale.
const BANDS: usize = 24;
/// Rows of the table before the reader asks for more.
const SHOWN: usize = 12;

/// Waveforms and frequency responses of the first layer's filters, their distribution over frequency, the second layer's filters, and what training changed. `largest` is as for
/// [`FilterBank::first_layer`]. What cannot be shown is replaced by a sentence.
pub fn filters_section(network: &Network, weights: &Weights, config: &TrainConfig, largest: Option<&[f32]>) -> Section {
    let mut parts = Vec::new();
    let first = FilterBank::first_layer(network, weights, largest);
    match &first {
        Ok(bank) => {
            parts.push(Part::Heading("The first layer as a filter bank".into()));
            parts.push(Part::Text(summary(bank)));
            parts.extend([filter_grid(bank), coverage(bank), summed_power(bank), table(bank)]);
        }
        Err(error) => parts.push(sentence(error)),
    }
    if let Ok(bank) = &first {
        parts.push(Part::Heading("The second layer".into()));
        match (second_kernel(network, weights), FilterBank::second_layer(network, weights, None)) {
            (Ok(kernel), Ok(second)) => parts.extend(second_layer(&kernel, bank, &second)),
            (Err(error), _) | (_, Err(error)) => parts.push(sentence(&error)),
        }
        parts.push(Part::Heading("Before and after training".into()));
        let before =
            initial_weights(network, config).and_then(|initial| FilterBank::first_layer(network, &initial, None));
        match before {
            Ok(before) => parts.extend(change_pictures(&before, bank)),
            Err(error) => parts.push(sentence(&error)),
        }
    }
    let look_for = "Whether the filters of the first layer divide the frequencies among themselves, as a mel filter bank \
                    does, and whether some have no effect or repeat others.";
    Section { id: "filters", title: "Filters", look_for: look_for.into(), parts }
}

/// An error as a paragraph.
fn sentence(error: &ExplainError) -> Part {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    Part::Text(format!("{first}{}.", chars.as_str()))
}

pub(super) fn picture(name: &str, caption: &str, svg: String) -> Part {
    Part::Picture(Picture { name: name.into(), caption: caption.into(), svg })
}

/// `620 Hz`, `1.2 kHz`.
fn hertz(frequency: f64) -> String {
    match frequency.abs() {
        size if size >= 9_950.0 => format!("{:.0} kHz", frequency / 1e3),
        size if size >= 995.0 => format!("{:.1} kHz", frequency / 1e3),
        size if size >= 9.95 => format!("{frequency:.0} Hz"),
        _ => format!("{frequency:.1} Hz"),
    }
}

fn summary(bank: &FilterBank) -> String {
    let count = |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let dead = bank.filters.iter().filter(|filter| filter.dead).count();
    let alike = bank.filters.iter().filter(|filter| filter.alike.is_some()).count();
    let milliseconds = 1e3 * bank.span as f64 / bank.rate;
    let length = format!("{} ({milliseconds:.2} ms at {})", count(bank.span, "sample", "samples"), hertz(bank.rate));
    format!(
        "{} has {} of {length}. Of these, {} no effect, and {} to another one but for a shift or the sign \
         (normalised cross-correlation above 0.98). A filter of this length cannot tell frequencies apart that are closer than about {}.",
        bank.layer,
        count(bank.filters.len(), "filter", "filters"),
        count(dead, "has", "have"),
        count(alike, "is almost equal", "are almost equal"),
        hertz(bank.rate / bank.span as f64),
    )
}

/// `≈ 12`, or `≈ −12` if that filter has the opposite sign.
fn like(alike: Alike) -> String {
    format!("≈ {}{}", if alike.correlation < 0.0 { "−" } else { "" }, alike.channel)
}

fn note(filter: &Filter) -> String {
    match filter.alike {
        _ if filter.dead => "no effect".into(),
        Some(alike) => like(alike),
        None => String::new(),
    }
}

/// The response in dB below its maximum at about `count` frequencies: of the values that a point stands for, the largest.
fn few_points(filter: &Filter, count: usize) -> Vec<f64> {
    let levels = filter.relative_response(FLOOR);
    let last = levels.len() - 1;
    let step = last.div_ceil(count).max(1);
    let around = |at: usize| &levels[(at * step).saturating_sub(step / 2)..=(at * step + step / 2).min(last)];
    (0..=last / step).map(|at| around(at).iter().copied().fold(FLOOR, f64::max)).collect()
}

/// Taps and response of each filter.
fn filter_grid(bank: &FilterBank) -> Part {
    let ms = |tap: usize| 1e3 * tap as f64 / bank.rate;
    let top = bank.rate / 2.0;
    let shown = bank.filters.len().min(MOST_CELLS);
    let cells = bank.filters[..shown].iter().map(|filter| {
        let most = filter.taps.iter().fold(0.0f64, |most, tap| most.max(tap.abs()));
        let most = if most > 0.0 { most } else { 1.0 };
        // With several input channels the four with the largest taps.
        let mut channels: Vec<&[f64]> = filter.taps.chunks(bank.span).collect();
        let energy = |taps: &&[f64]| -taps.iter().map(|tap| tap * tap).sum::<f64>();
        channels.sort_by(|a, b| energy(a).total_cmp(&energy(b)));
        channels.truncate(4);
        let taps = channels.iter().map(|taps| taps.iter().enumerate().map(|(t, tap)| [ms(t), tap / most]).collect());
        let points = few_points(filter, POINTS[0]);
        let at = |number: usize| top * number as f64 / (points.len() - 1).max(1) as f64;
        let response = points.iter().enumerate().map(|(number, &level)| [at(number), level]).collect();
        let title = format!("{} · {}", filter.channel, hertz(filter.centre));
        Cell { title, note: note(filter), lines: vec![taps.collect(), vec![response]] }
    });
    let half = 0.5 * ms(1);
    let panels = vec![
        Panel {
            label: format!(
                "weight over time (ms, first to last of {} taps), divided by the filter's largest",
                bank.span
            ),
            x: Axis::linear("time (ms)").between(-half, ms(bank.span - 1) + half),
            y: Axis::linear("weight").between(-1.08, 1.08),
            marks: false,
            bars: bank.span <= 32 && bank.c_in == 1,
            share: 1.0,
        },
        Panel {
            label: "gain (dB) over frequency (Hz), relative to the filter's largest".into(),
            x: Axis::linear("frequency (Hz)").between(0.0, top),
            y: Axis::linear("gain (dB)").between(FLOOR, 0.0),
            marks: true,
            bars: false,
            share: 1.4,
        },
    ];
    let title = format!("Filters of {} by centre frequency", bank.layer);
    let svg = Grid { title, panels, cells: cells.collect(), columns: 4 }.to_svg();
    let mut caption =
        "Each filter has the number of its channel and its centre frequency, the mean frequency weighted by \
                       power. \"≈ 12\" marks a filter that is almost equal to filter 12, \"≈ −12\" one that is its \
                       negative, \"no effect\" one whose output is never positive or whose weights are negligible."
            .to_string();
    if bank.c_in > 4 {
        caption += " Of the input channels, the four with the largest weights are shown.";
    }
    if shown < bank.filters.len() {
        caption += &format!(" The first {shown} of {} filters are shown.", bank.filters.len());
    }
    picture("filters-first-layer", &caption, svg)
}

/// A staircase over bands.
fn staircase(name: &str, colour: usize, steps: impl Iterator<Item = (f64, f64, f64)>) -> Series {
    let ends = steps.flat_map(|(low, high, y)| [[low, y], [high, y]]);
    let points = ends.map(|[x, y]| Point { x, y, ..Point::default() }).collect();
    Series { name: name.into(), points, line: true, steps: true, colour: Some(colour), ..Series::default() }
}

fn coverage(bank: &FilterBank) -> Part {
    let bands = bank.coverage(BANDS);
    let most = bands.iter().map(|band| band.filters).max().unwrap_or(0) as f64;
    let even = bands.first().map_or(0.0, |band| band.of_mel_bank);
    let series = vec![
        staircase("filters of this network", 0, bands.iter().map(|band| (band.low, band.high, band.filters as f64))),
        staircase("a mel filter bank", 1, bands.iter().map(|band| (band.low, band.high, band.of_mel_bank))),
    ];
    let plot = Plot {
        title: format!("Centre frequencies of {} in {BANDS} bands of equal width in mel", bank.layer),
        x: Axis::mel("frequency (Hz), on the mel scale").between(0.0, bank.rate / 2.0),
        y: Axis::linear("filters in the band").between(0.0, 1.08 * most.max(even).max(1.0)).of_whole_numbers(),
        series,
        height: 180.0,
    };
    let caption = "Where the solid line is above the dashed one, the network spends more filters than a mel filter bank \
                   with as many filters would, whose filters are equally far apart on the mel scale. \
                   The centre frequency of a short filter, which passes a wide band, lies towards the middle of the axis.";
    picture("filters-coverage", caption, plot.to_svg())
}

fn summed_power(bank: &FilterBank) -> Part {
    let power = bank.summed_power();
    let most = power.iter().copied().fold(0.0, f64::max);
    let level = |power: f64| if power > 0.0 && most > 0.0 { (10.0 * (power / most).log10()).max(FLOOR) } else { FLOOR };
    let points = bank.frequencies.iter().zip(&power).step_by((bank.frequencies.len() / 256).max(1));
    let points = points.map(|(&x, &power)| Point { x, y: level(power), ..Point::default() }).collect();
    let plot = Plot {
        title: format!("Sum of the power responses of {}", bank.layer),
        x: Axis::linear("frequency (Hz)").between(0.0, bank.rate / 2.0),
        y: Axis::linear("power (dB)"),
        series: vec![Series { points, line: true, ..Series::default() }],
        height: 140.0,
    };
    let caption = "How much of each frequency all filters together pass on, relative to the frequency that they pass on \
                   most: a valley is a range that the network attenuates.";
    picture("filters-summed-power", caption, plot.to_svg())
}

fn table(bank: &FilterBank) -> Part {
    let headings = [
        "filter",
        "centre (Hz)",
        "peak (Hz)",
        "bandwidth (Hz)",
        "gain (dB)",
        "no effect",
        "almost equal to",
        "correlation",
        "lag (samples)",
    ];
    let row = |filter: &Filter| {
        let alike = |text: fn(Alike) -> String| filter.alike.map_or(String::new(), text);
        vec![
            filter.channel.to_string(),
            format!("{:.1}", filter.centre),
            format!("{:.1}", filter.peak),
            format!("{:.1}", filter.bandwidth),
            format!("{:.2}", filter.gain),
            if filter.dead { "yes".into() } else { String::new() },
            alike(|alike| alike.channel.to_string()),
            alike(|alike| format!("{:.4}", alike.correlation)),
            alike(|alike| alike.lag.to_string()),
        ]
    };
    Part::Table(Table {
        name: "filters-first-layer-table".into(),
        caption:
            "The filters by centre frequency; bandwidth is the width of the band around the peak within 3 dB, gain \
                  the largest magnitude of the response with the factor of batch norm."
                .into(),
        headings: headings.map(String::from).to_vec(),
        rows: bank.filters.iter().map(row).collect(),
        shown: SHOWN,
    })
}

/// Responses of a bank, one row for each filter.
pub(super) fn response_map(bank: &FilterBank, title: String) -> String {
    let rows: Vec<Vec<f64>> = bank.filters.iter().take(MOST_ROWS).map(|filter| few_points(filter, POINTS[1])).collect();
    let cols = rows.first().map_or(0, Vec::len);
    let values = rows.iter().flatten().map(|&level| level as f32).collect();
    Heat {
        title,
        x: Axis::linear("frequency (Hz)").between(0.0, bank.rate / 2.0),
        y: Axis::linear("filter, by centre frequency").of_whole_numbers(),
        raster: Raster::new(rows.len(), cols, values),
        first_row: FirstRow::Top,
        palette: Palette::Viridis,
        range: [FLOOR as f32, 0.0],
        values: "gain (dB)".into(),
        width: 760.0,
        height: (6.0 * rows.len() as f64).clamp(120.0, 420.0),
    }
    .to_svg()
}

/// The weights as an image, and the responses through the first layer.
fn second_layer(kernel: &Kernel, first: &FilterBank, second: &FilterBank) -> Vec<Part> {
    let rows = second.filters.len().min(MOST_ROWS);
    let mut values = Vec::with_capacity(rows * kernel.c_in * kernel.k);
    for filter in &second.filters[..rows] {
        for input in &first.filters {
            values.extend(kernel.taps(filter.channel, input.channel).map(|tap| tap as f32));
        }
    }
    let most = largest_usual(&values);
    let weights = Heat {
        title: format!("Weights of {}", kernel.layer),
        x: Axis::linear(&format!("filter of {}, by centre frequency; {} taps each", first.layer, kernel.k))
            .between(0.0, kernel.c_in as f64)
            .of_whole_numbers(),
        y: Axis::linear("filter, by centre frequency").of_whole_numbers(),
        raster: Raster::new(rows, kernel.c_in * kernel.k, values),
        first_row: FirstRow::Top,
        palette: Palette::Signed,
        range: [-most, most],
        values: "weight".into(),
        width: 760.0,
        height: (7.0 * rows as f64).clamp(120.0, 420.0),
    };
    let weights_caption = "Each row is a filter of the second layer, and each group of columns what it takes from one filter \
                           of the first layer at successive times: a column of one colour is a first-layer filter that \
                           most use in the same way, an empty one is hardly used. Colours end at the 99th percentile of the \
                           magnitudes.";
    let responses_caption = "What each filter of the second layer responds to in the sound, relative to its largest gain: its \
                             weights and those of the first layer as one filter. ReLU and max pooling between the two \
                             layers are left out, so that this is the linear part of the response only.";
    vec![
        picture("filters-second-layer-weights", weights_caption, weights.to_svg()),
        picture(
            "filters-second-layer-responses",
            responses_caption,
            response_map(second, format!("{} through {}: frequency responses", second.layer, first.layer)),
        ),
    ]
}

/// The 99th percentile of the magnitudes, so that single large weights do not hide the others; 1 if it is 0.
fn largest_usual(values: &[f32]) -> f32 {
    let mut magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let at = (magnitudes.len() as f64 * 0.99) as usize;
    magnitudes.get(at.min(magnitudes.len().saturating_sub(1))).copied().filter(|&most| most > 0.0).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkSpec;

    fn section(text: &str, change: fn(&mut TrainConfig)) -> Section {
        let spec = NetworkSpec::parse(text, "the test").unwrap();
        let network = Network::build(&spec, 2).unwrap();
        let weights = Weights::initial(&network.graph, Default::default(), 2);
        let mut config = TrainConfig::new(spec);
        change(&mut config);
        filters_section(&network, &weights, &config, None)
    }

    fn pictures(section: &Section) -> Vec<&str> {
        let name = |part: &'_ Part| matches!(part, Part::Picture(_));
        section
            .parts
            .iter()
            .filter(|part| name(part))
            .map(|part| match part {
                Part::Picture(picture) => picture.name.as_str(),
                _ => "",
            })
            .collect()
    }

    fn says(section: &Section, what: &str) -> bool {
        section.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(what)))
    }

    const TWO: &str = "name = \"t\"\ninput.length = 400\n[[block]]\nconv = 32\nkernel = 5\npool = 3\n[[block]]\nconv = 8\nkernel = 5\n";

    #[test]
    fn thirty_two_filters_have_all_pictures_in_a_small_page() {
        let section = section(TWO, |_| ());
        let names = pictures(&section);
        assert_eq!(names.len(), 8, "{names:?}");
        assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1));
        let sizes = section.parts.iter().map(|part| if let Part::Picture(it) = part { it.svg.len() } else { 0 });
        assert!(sizes.sum::<usize>() < 250_000);
        let tables = section.parts.iter().filter_map(|part| if let Part::Table(it) = part { Some(it) } else { None });
        for table in tables {
            assert!(table.rows.len() == 32 && table.rows.iter().all(|row| row.len() == table.headings.len()));
        }
    }

    #[test]
    fn what_is_missing_is_a_sentence() {
        let from_another = section(TWO, |config| config.init_from = Some("runs/a".into()));
        assert!(says(&from_another, "began with the weights of runs/a"));
        assert_eq!(pictures(&from_another).len(), 5);
        let one = "name = \"t\"\ninput = { length = 400, channels = 6, sample_rate = 250 }\n[[block]]\nconv = 300\nkernel = 9\n";
        let one = section(one, |_| ());
        assert!(says(&one, "only one convolution") && says(&one, "conv1 has 300 filters"));
        assert_eq!(pictures(&one).len(), 6);
    }
}
