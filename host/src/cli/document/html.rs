//! Documents as a page for a browser and for paper.

use std::fmt::Write;

use super::number::align;
use super::page::Page;
use super::row::{columns, rows};
use super::words::{heading, notes, title, totals};

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:96rem;\
    padding:0 1rem;color:#111;background:#fff}h1{font-size:1.5em}\
    h1:first-letter{text-transform:uppercase}\
    header p{margin:.1rem 0}table{border-collapse:collapse;width:100%;margin:1.5rem 0}\
    th,td{padding:.25rem .5rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top;\
    overflow-wrap:break-word}td.w{white-space:nowrap}th{font-weight:600;white-space:nowrap}\
    td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:pre}\
    tfoot td{font-weight:600;border-bottom:0}\
    div.t{overflow-x:auto}\
    p.note{color:#555;margin:.2rem 0}section+section{break-before:page}\
    @page{size:A4 landscape;margin:14mm}\
    @media print{body{margin:0;padding:0;max-width:none;font-size:9.5px}div.t{overflow:visible}\
    thead{display:table-header-group}tr{break-inside:avoid}tfoot{display:table-row-group}}";

/// The page of some documents.
pub(super) fn of(pages: &[Page<'_>]) -> String {
    let name = match pages {
        [only] => title(only.document),
        _ => "Invoices".into(),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body>\n",
        escaped(&name)
    );
    if pages.is_empty() {
        page.push_str("<p>nothing to bill</p>\n");
    }
    for one in pages {
        section(&mut page, *one);
    }
    page.push_str("</body></html>");
    page
}

fn section(text: &mut String, page: Page<'_>) {
    let document = page.document;
    let _ = write!(text, "<section><header><h1>{}</h1>", escaped(&title(document)));
    for line in heading(document) {
        let _ = write!(text, "<p>{}</p>", escaped(&line));
    }
    text.push_str("</header>\n");
    table(text, page);
    for note in notes(document) {
        let _ = writeln!(text, "<p class=\"note\">{}</p>", escaped(&note));
    }
    text.push_str("</section>\n");
}

fn table(text: &mut String, page: Page<'_>) {
    let rows = rows(page);
    let columns = columns(page, &rows);
    let totals = totals(page.document);
    if rows.is_empty() && totals.is_empty() {
        return;
    }
    let class = |is_number: bool| if is_number { " class=\"n\"" } else { "" };
    text.push_str("<div class=\"t\"><table><thead><tr>");
    for column in &columns {
        let name = format!("{}{}", &column.head[..1], column.head[1..].to_lowercase());
        let _ = write!(text, "<th scope=\"col\"{}>{name}</th>", class(column.is_number));
    }
    text.push_str("</tr></thead><tbody>\n");
    let cells = columns.iter().map(|column| {
        let mut cells: Vec<_> = rows.iter().map(|row| (column.of)(row).clone()).collect();
        if column.is_number {
            // Spaces as wide as a point and as a digit.
            align(&mut cells, '\u{2008}', '\u{2007}');
        }
        cells
    });
    let cells: Vec<_> = cells.collect();
    for place in 0..rows.len() {
        text.push_str("<tr>");
        for (column, cells) in columns.iter().zip(&cells) {
            let mut cell = escaped(&cells[place]);
            let class = match column.head {
                "FROM" | "UNTIL" => {
                    // With nanoseconds an instant is wide: it may break before its time.
                    cell = cell.replacen('T', "<wbr>T", 1);
                    ""
                }
                "DAY" | "UNIT" => " class=\"w\"",
                _ => class(column.is_number),
            };
            let _ = write!(text, "<td{class}>{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody><tfoot>");
    let before = columns.len().saturating_sub(1).max(1);
    for (name, amount) in totals {
        let mut name = escaped(&name);
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let _ = write!(
            text,
            "<tr><td colspan=\"{before}\">{name}</td><td class=\"n\">{}</td></tr>",
            escaped(&amount)
        );
    }
    text.push_str("</tfoot></table></div>\n");
}

/// Escapes text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_markup() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
