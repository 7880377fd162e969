//! An explanation as one HTML file that needs no network, and as files of its pictures and tables.

use super::section::{Part, Picture, Section, Sound, Table};
use crate::base::Name;
use crate::figure::escaped;
use crate::train::csv_field;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page about one network.
pub struct Page {
    /// The heading: the name of the run.
    pub title: String,
    /// What the network is and how well it does, in a sentence or two.
    pub summary: String,
    /// The sections, from top to bottom.
    pub sections: Vec<Section>,
    /// The sounds that points of pictures play, by the number of the clip.
    pub sounds: Vec<(u32, Sound)>,
}

/// A file beside the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl Page {
    /// The HTML file.
    pub fn to_html(&self) -> String {
        let title = escaped(&self.title);
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline';\
             script-src 'unsafe-inline';img-src data:;media-src data: blob:\">\
             <link rel=\"icon\" href=\"data:,\"><title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n\
             <header><h1>{title}</h1><p>{}</p></header>\n<nav aria-label=\"Sections\"><ul>",
            escaped(&self.summary)
        );
        for section in &self.sections {
            _ = write!(text, "<li><a href=\"#{}\">{}</a></li>", section.id, escaped(section.title));
        }
        text += "</ul></nav>\n<main>\n";
        self.sections.iter().for_each(|section| section.write_html(&mut text));
        text += "</main>\n";
        for (clip, sound) in &self.sounds {
            _ = writeln!(
                text,
                "<template data-sound=\"{clip}\" data-caption=\"{}\">{}</template>",
                escaped(&sound.caption),
                sound.data_uri()
            );
        }
        _ = writeln!(text, "<script>{SCRIPT}</script>\n</body></html>");
        text
    }

    /// The pictures as SVG, and the tables as CSV and JSON.
    pub fn files(&self) -> Vec<File> {
        let mut files = Vec::new();
        let file = |picture: &Picture| File { name: format!("{}.svg", picture.name), text: picture.svg.clone() };
        for part in self.sections.iter().flat_map(|section| &section.parts) {
            match part {
                Part::Picture(picture) => files.push(file(picture)),
                Part::Pictures(pictures) => files.extend(pictures.iter().map(file)),
                Part::Table(table) => {
                    files.push(File { name: format!("{}.csv", table.name), text: table.to_csv() });
                    files.push(File { name: format!("{}.json", table.name), text: table.to_json() });
                }
                Part::Heading(_) | Part::Text(_) | Part::Sounds(_) => {}
            }
        }
        files
    }
}

impl Section {
    fn write_html(&self, text: &mut String) {
        let (id, title) = (self.id, escaped(self.title));
        _ = writeln!(text, "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>");
        _ = writeln!(text, "<p class=\"look\"><strong>Look for:</strong> {}</p>", escaped(&self.look_for));
        for part in &self.parts {
            match part {
                Part::Heading(heading) => _ = writeln!(text, "<h3>{}</h3>", escaped(heading)),
                Part::Text(paragraph) => _ = writeln!(text, "<p>{}</p>", escaped(paragraph)),
                Part::Picture(picture) => picture.write_html(text),
                Part::Pictures(pictures) => {
                    *text += "<div class=\"beside\">\n";
                    pictures.iter().for_each(|picture| picture.write_html(text));
                    *text += "</div>\n";
                }
                Part::Table(table) => table.write_html(text),
                Part::Sounds(sounds) => {
                    *text += "<ul class=\"sounds\">\n";
                    for sound in sounds {
                        let caption = escaped(&sound.caption);
                        _ = writeln!(
                            text,
                            "<li><span>{caption}</span><audio controls preload=\"none\" aria-label=\"{caption}\" src=\"{}\"></audio></li>",
                            sound.data_uri()
                        );
                    }
                    *text += "</ul>\n";
                }
            }
        }
        *text += "</section>\n";
    }
}

impl Picture {
    fn write_html(&self, text: &mut String) {
        _ = writeln!(text, "<figure>{}<figcaption>{}</figcaption></figure>", self.svg, escaped(&self.caption));
    }
}

impl Table {
    fn write_html(&self, text: &mut String) {
        let caption = escaped(&self.caption);
        let (shown, hidden) = self.rows.split_at(self.shown.min(self.rows.len()));
        let table = |text: &mut String, rows: &[Vec<String>], caption: &str| {
            _ = write!(text, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table>");
            _ = write!(text, "<caption>{caption}</caption><thead><tr>");
            self.headings.iter().for_each(|cell| _ = write!(text, "<th scope=\"col\">{}</th>", escaped(cell)));
            *text += "</tr></thead><tbody>\n";
            for row in rows {
                *text += "<tr>";
                row.iter().for_each(|cell| _ = write!(text, "<td{}>{}</td>", class_of(cell), escaped(cell)));
                *text += "</tr>\n";
            }
            *text += "</tbody></table></div>\n";
        };
        table(text, shown, &caption);
        if !hidden.is_empty() {
            _ = writeln!(text, "<details><summary>{} more rows</summary>", hidden.len());
            table(text, hidden, &caption);
            *text += "</details>\n";
        }
    }

    /// The table as CSV, with a line of headings.
    pub fn to_csv(&self) -> String {
        let line = |cells: &[String]| {
            cells.iter().map(|cell| csv_field(&Name::from(cell.as_str()))).collect::<Vec<_>>().join(",") + "\n"
        };
        line(&self.headings) + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }

    /// The table as JSON: an object for each row.
    pub fn to_json(&self) -> String {
        let value = |cell: &String| match cell.parse::<f64>() {
            Ok(number) if number.is_finite() && !cell.starts_with('+') => serde_json::json!(number),
            _ => serde_json::json!(cell),
        };
        let row = |row: &Vec<String>| -> serde_json::Map<String, serde_json::Value> {
            self.headings.iter().cloned().zip(row.iter().map(value)).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        serde_json::to_string_pretty(&rows).expect("texts and finite numbers are valid JSON") + "\n"
    }
}

/// Cells that begin with a digit or a sign are numbers, which are aligned at the right.
fn class_of(cell: &str) -> &'static str {
    let mut chars = cell.chars();
    let is_number = match chars.next() {
        Some('+' | '-') => chars.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_ascii_digit() && !cell.contains('/'),
        None => false,
    };
    if is_number { " class=\"n\"" } else { "" }
}

impl Sound {
    /// The sound as a WAV file.
    pub fn to_wav(&self) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = std::io::Cursor::new(Vec::with_capacity(44 + 2 * self.samples.len()));
        let write = |bytes: &mut std::io::Cursor<Vec<u8>>| -> Result<(), hound::Error> {
            let mut wav = hound::WavWriter::new(bytes, spec)?;
            self.samples.iter().try_for_each(|&sample| wav.write_sample(sample))?;
            wav.finalize()
        };
        match write(&mut bytes) {
            Ok(()) => bytes.into_inner(),
            // Memory takes everything; a sound of more than 4 GiB is no WAV file.
            Err(_) => Vec::new(),
        }
    }

    fn data_uri(&self) -> String {
        format!("data:audio/wav;base64,{}", STANDARD.encode(self.to_wav()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let table = Table {
            name: "words".into(),
            caption: "Words & clips".into(),
            headings: vec!["word".into(), "clips".into()],
            rows: vec![vec!["a,b".into(), "3".into()], vec!["<c>".into(), "+0.5".into()]],
            shown: 1,
        };
        let sound = Sound { caption: "\"one\"".into(), samples: vec![0, 1, -1], rate: 16_000 };
        let picture = Picture { name: "p".into(), caption: "P.".into(), svg: "<svg></svg>".into() };
        let parts = vec![Part::Picture(picture), Part::Table(table), Part::Sounds(vec![sound.clone()])];
        let section = Section { id: "one", title: "One", look_for: "It.".into(), parts };
        Page { title: "<run>".into(), summary: "S.".into(), sections: vec![section], sounds: vec![(7, sound)] }
    }

    #[test]
    fn texts_are_escaped_and_rows_beyond_the_first_are_folded() {
        let html = page().to_html();
        assert!(html.contains("<title>&lt;run&gt;</title>") && html.contains("&lt;c&gt;") && !html.contains("<c>"));
        assert!(html.contains("<summary>1 more rows</summary>") && html.contains("data-sound=\"7\""));
        assert_eq!(html.matches("data:audio/wav;base64,UklGR").count(), 2);
        assert!(!html.contains("http:") && !html.contains("https:"), "no request leaves the page");
    }

    #[test]
    fn tables_are_csv_and_json() {
        let files = page().files();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["p.svg", "words.csv", "words.json"]);
        assert_eq!(files[1].text, "word,clips\n\"a,b\",3\n<c>,+0.5\n");
        let rows: serde_json::Value = serde_json::from_str(&files[2].text).unwrap();
        assert_eq!((rows[0]["clips"].as_f64(), rows[1]["clips"].as_str()), (Some(3.0), Some("+0.5")));
    }

    #[test]
    fn sounds_are_wav_files() {
        let wav = Sound { caption: String::new(), samples: vec![5, -5], rate: 8000 }.to_wav();
        let mut reader = hound::WavReader::new(&wav[..]).unwrap();
        assert_eq!(reader.spec().sample_rate, 8000);
        assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [5, -5]);
    }
}
