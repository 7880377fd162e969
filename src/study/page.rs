//! The report of a study as one HTML file that needs no network, script or font.

use super::pictures::pictures;
use super::report::StudyReport;
use crate::figure::escaped;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#24292f;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;white-space:nowrap}\
th,td{padding:.25rem .6rem;border-bottom:1px solid #d0d7de;text-align:right}\
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}\
figure{margin:1.2rem 0}svg{width:100%;max-width:760px;height:auto}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}}";

impl StudyReport {
    /// The tables and pictures as one HTML file.
    pub fn to_html(&self) -> String {
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>Study</title><style>{STYLE}</style></head>\n<body>\n<h1>Study</h1>\n<p>{}</p>\n",
            escaped(&self.conditions)
        );
        if !self.missing().is_empty() {
            _ = writeln!(text, "<p>Not finished: {}.</p>", escaped(&self.missing().join(", ")));
        }
        for picture in pictures(self) {
            _ = writeln!(text, "<figure>{}</figure>", picture.svg);
        }
        for (heading, rows) in self.grouped() {
            _ = writeln!(text, "<h2>{}</h2>", escaped(&heading));
            let rows = rows.into_iter().map(|row| row.cells());
            table(&mut text, &StudyReport::HEADINGS, rows);
        }
        _ = writeln!(text, "<p>{}</p>", StudyReport::INTERVALS);
        if !self.correlations.is_empty() {
            text += "<h2>Rank correlation of reported and obtained</h2>\n";
            let rows = self.correlations.iter().map(|of| of.cells());
            table(&mut text, &super::report::Correlation::HEADINGS, rows);
        }
        text + "</body></html>\n"
    }
}

fn table(text: &mut String, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let row = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells.map(|cell| format!("<{name}>{}</{name}>", escaped(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    *text += "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead>";
    *text += &row("th", &mut headings.iter().copied());
    *text += "</thead><tbody>\n";
    for cells in rows {
        *text += &row("td", &mut cells.iter().map(String::as_str));
    }
    *text += "</tbody></table></div>\n";
}
