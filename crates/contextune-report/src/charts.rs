//! Charts as SVG, to stand in a page.
//!
//! Axes and texts are drawn in [`INK`] and [`GRID`], which the page's style replaces by its own colours; the ground stays clear.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::map::Map;

/// Axes and texts.
const INK: RGBColor = RGBColor(1, 2, 3);
/// Lines behind the data.
const GRID: RGBColor = RGBColor(221, 222, 223);
/// Series and classes, told apart also without seeing red or green (Okabe & Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(128, 110, 90),
];
/// With more classes than this, pictures on a map have one colour.
const COLOURED_CLASSES: usize = 20;
/// Size of letters.
const LETTERS: u32 = 13;

/// A line through points, with a band around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// x, y, and how far the band reaches above and below.
    pub points: Vec<(f64, f64, f64)>,
}

/// What the axes of a chart of lines say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axes<'a> {
    /// Below the horizontal one.
    pub x: &'a str,
    /// Beside the vertical one.
    pub y: &'a str,
    /// Each step to the right is a doubling.
    pub doubling: bool,
}

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An SVG of this size.
fn svg((width, height): (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)
            .and_then(|()| Ok(area.present()?))
            .expect("a chart is drawn into a text, which always takes it");
    }
    text
}

fn letters() -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&INK)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Lines in one chart; there is at least one point.
pub fn lines(lines: &[Line], axes: Axes<'_>) -> String {
    let place = |x: f64| if axes.doubling { x.log2() } else { x };
    let points = || lines.iter().flat_map(|line| &line.points);
    let (mut left, mut right) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut low, mut high) = (0.0_f64, f64::NEG_INFINITY);
    for &(x, y, band) in points() {
        (left, right) = (left.min(place(x)), right.max(place(x)));
        (low, high) = (low.min(y - band), high.max(y + band));
    }
    if right <= left {
        (left, right) = (left - 0.5, left + 0.5);
    }
    let high = if high > low {
        high + 0.05 * (high - low)
    } else {
        low + 1.0
    };
    let falls = lines.iter().all(|line| match &line.points[..] {
        [first, .., last] => last.1 < first.1,
        _ => false,
    });
    svg((640, 300), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right, low..high)?;
        let ticks = |&x: &f64| match axes.doubling {
            true => format!("{}", x.exp2().round()),
            false => format!("{x:.0}"),
        };
        let steps = ((right - left).round() as usize + 1).clamp(2, 10);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(letters())
            .axis_desc_style(letters())
            .x_labels(steps)
            .y_labels(6)
            .x_label_formatter(&ticks)
            .x_desc(axes.x)
            .y_desc(axes.y)
            .draw()?;
        for (index, line) in lines.iter().enumerate() {
            let colour = colour(index);
            if line.points.iter().any(|&(_, _, band)| band > 0.0) {
                let above = line.points.iter().map(|&(x, y, band)| (place(x), y + band));
                let below = line.points.iter().rev();
                let below = below.map(|&(x, y, band)| (place(x), y - band));
                let band: Vec<(f64, f64)> = above.chain(below).collect();
                chart.draw_series([Polygon::new(band, colour.mix(0.18))])?;
            }
            let points = line.points.iter().map(|&(x, y, _)| (place(x), y));
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3))
                });
            if line.points.len() <= 12 {
                chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
            }
        }
        if lines.len() > 1 {
            chart
                .configure_series_labels()
                .label_font(letters())
                .position(match falls {
                    true => SeriesLabelPosition::UpperRight,
                    false => SeriesLabelPosition::LowerRight,
                })
                .draw()?;
        }
        Ok(())
    })
}

/// How often pictures of a class (row) were taken for another (column): `counts` `[K, K]` row-major. Names longer than the
/// margin are cut.
pub fn matrix(names: &[String], counts: &[usize]) -> String {
    const MARGIN: u32 = 150;
    const LONGEST: usize = 20;
    let classes = names.len();
    let cell = (560 / classes.max(1) as u32).clamp(12, 40);
    let side = MARGIN + cell * classes as u32 + 8;
    let short = |name: &str| match name.chars().count() > LONGEST {
        true => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => name.to_owned(),
    };
    let size = LETTERS.min(cell);
    let letters = || ("sans-serif", size).into_font().color(&INK);
    svg((side, side), |area| {
        use plotters::style::text_anchor::{HPos, Pos, VPos};
        let start = |index: usize| (MARGIN + cell * index as u32) as i32;
        let middle = |index: usize| start(index) + cell as i32 / 2;
        let beside = MARGIN as i32 - 6;
        for (row, name) in names.iter().enumerate() {
            let right = letters().pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(short(name), (beside, middle(row)), right))?;
            let upwards = ("sans-serif", size).into_font();
            let upwards = upwards.transform(FontTransform::Rotate270).color(&INK);
            let upwards = upwards.pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(short(name), (middle(row), beside), upwards))?;
            let counts = &counts[row * classes..(row + 1) * classes];
            let all = counts.iter().sum::<usize>().max(1) as f64;
            for (column, &count) in counts.iter().enumerate() {
                let corner = (start(column), start(row));
                let opposite = (corner.0 + cell as i32 - 1, corner.1 + cell as i32 - 1);
                let share = count as f64 / all;
                let colour = if row == column { colour(0) } else { colour(1) };
                let ground = Rectangle::new([corner, opposite], GRID.mix(0.5).filled());
                area.draw(&ground)?;
                if count > 0 {
                    let filled = colour.mix(0.15 + 0.85 * share).filled();
                    area.draw(&Rectangle::new([corner, opposite], filled))?;
                }
                if count > 0 && cell >= 20 {
                    let centred = letters().pos(Pos::new(HPos::Center, VPos::Center));
                    let place = (middle(column), middle(row));
                    area.draw(&Text::new(count.to_string(), place, centred))?;
                }
            }
        }
        Ok(())
    })
}

/// Pictures as dots, and each class as a way from where its words lie (ring) to where it was learned (disc).
pub fn map(map: &Map, names: &[String]) -> String {
    let places = || {
        let pictures = map.pictures.iter().map(|(place, _)| place);
        pictures.chain(&map.words).chain(&map.learned)
    };
    let bound = |axis: usize| {
        let far = places()
            .map(|place| place[axis].abs())
            .fold(0.0_f32, f32::max);
        1.08 * f64::from(far.max(f32::MIN_POSITIVE))
    };
    let (wide, high) = (bound(0), bound(1));
    let few = names.len() <= COLOURED_CLASSES;
    let of_class = |class: usize| {
        if few {
            colour(class)
        } else {
            RGBColor(128, 128, 128)
        }
    };
    let point = |place: &[f32; 2]| (f64::from(place[0]), f64::from(place[1]));
    svg((640, 480), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .build_cartesian_2d(-wide..wide, -high..high)?;
        let dots = map.pictures.iter().map(|(place, class)| {
            Circle::new(point(place), 3, of_class(*class).mix(0.35).filled())
        });
        chart.draw_series(dots)?;
        for (class, (from, to)) in map.words.iter().zip(&map.learned).enumerate() {
            let colour = of_class(class);
            let way = [point(from), point(to)];
            chart.draw_series([PathElement::new(way, colour.stroke_width(1))])?;
            chart.draw_series([Circle::new(point(from), 5, colour.stroke_width(2))])?;
            chart.draw_series([Circle::new(point(to), 6, colour.filled())])?;
            if few && let Some(name) = names.get(class) {
                let label =
                    EmptyElement::at(point(to)) + Text::new(name.clone(), (8, -6), letters());
                chart.draw_series([label])?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_complete_svg_with_their_texts() {
        let line = |name: &str, band| Line {
            name: name.into(),
            points: vec![(1.0, 20.0, band), (4.0, 30.0, band), (16.0, 60.0, band)],
        };
        let axes = Axes {
            x: "shots",
            y: "accuracy in %",
            doubling: true,
        };
        let names = [
            "a <b>".to_owned(),
            "a class with a name beyond all margins".to_owned(),
        ];
        let places = Map {
            pictures: vec![([0.0, 1.0], 0), ([1.0, 0.0], 1)],
            words: vec![[0.0, 0.5], [0.5, 0.0]],
            learned: vec![[0.1, 0.9], [0.9, 0.1]],
        };
        for (chart, text) in [
            (
                lines(&[line("coop", 2.0), line("vpt", 0.0)], axes),
                "accuracy in %",
            ),
            (
                lines(
                    &[Line {
                        name: String::new(),
                        points: vec![(1.0, 0.0, 0.0)],
                    }],
                    axes,
                ),
                "shots",
            ),
            (matrix(&names, &[3, 1, 0, 2]), "a &lt;b&gt;"),
            (map(&places, &names), "a &lt;b&gt;"),
        ] {
            assert!(
                chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"),
                "{chart}"
            );
            assert!(chart.contains(text), "{text}: {chart}");
            assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
        }
    }
}
