//! The sections of an explanation, without a format: texts, pictures, tables and sounds.

use crate::base::FULL_SCALE;

/// A part of a page about one question.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in addresses: `filters`.
    pub id: &'static str,
    /// The heading.
    pub title: &'static str,
    /// One sentence that says what to look for.
    pub look_for: String,
    /// What is shown, from top to bottom.
    pub parts: Vec<Part>,
}

/// One part of a section.
#[derive(Clone, Debug)]
pub enum Part {
    /// A heading within the section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A picture.
    Picture(Picture),
    /// Pictures side by side where there is room.
    Pictures(Vec<Picture>),
    /// A table.
    Table(Table),
    /// Sounds side by side.
    Sounds(Vec<Sound>),
}

/// A picture in SVG, whose description is part of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The name of its file, without the ending; no other picture has it.
    pub name: String,
    /// What it shows, in one sentence; shown under it.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// A table, whose cells are texts.
#[derive(Clone, Debug)]
pub struct Table {
    /// The name of its file, without the ending; no other table has it.
    pub name: String,
    /// What it lists, in one sentence.
    pub caption: String,
    /// The headings of the columns.
    pub headings: Vec<String>,
    /// The rows, with as many cells.
    pub rows: Vec<Vec<String>>,
    /// How many rows the page shows before the reader asks for the others.
    pub shown: usize,
}

/// A sound that can be played.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What the sound is.
    pub caption: String,
    /// Mono samples of 16 bits.
    pub samples: Vec<i16>,
    /// Hz.
    pub rate: u32,
}

impl Sound {
    /// Samples with full scale 1; louder ones are clipped.
    pub fn of(caption: String, samples: &[f32], rate: u32) -> Sound {
        // A conversion to an integer stays in its range, and takes NaN for 0.
        let samples = samples.iter().map(|&sample| (sample / FULL_SCALE).round() as i16).collect();
        Sound { caption, samples, rate }
    }

    /// The sound with half as many samples, each the mean of two; the highest frequency is half of what it was.
    #[must_use]
    pub fn at_half_rate(self) -> Sound {
        let mean = |pair: &[i16]| ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16;
        let samples = self.samples.as_chunks::<2>().0.iter().map(|pair| mean(pair)).collect();
        Sound { samples, rate: self.rate / 2, ..self }
    }
}
