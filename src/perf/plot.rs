//! Rates and latencies over time, as an SVG picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::error::PerfError;
use super::report::time;
use super::summary::{Latency, Second, Summary};

const SIZE: (u32, u32) = (960, 640);
const FONT: &str = "sans-serif";
const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(255, 127, 14);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const RED: RGBColor = RGBColor(214, 39, 40);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// One curve: its name, its colour, and its value in each second that has one.
struct Curve {
    name: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Draws `summary` to the file `path`.
pub(super) fn draw(path: &Path, summary: &Summary) -> Result<(), PerfError> {
    let backend = SVGBackend::new(path, SIZE);
    let area = backend.into_drawing_area();
    draw_on(&area, summary).map_err(|error| PerfError::Plot {
        path: path.to_owned(),
        what: error.to_string(),
    })
}

fn draw_on<'a>(area: &Area<'a>, summary: &Summary) -> Result<(), DrawError<'a>> {
    area.fill(&WHITE)?;
    let name = summary.scenario.as_deref().unwrap_or("leveret perf");
    let area = area.titled(&format!("{name}: {}", summary.broker), (FONT, 24))?;
    let (rates, latencies) = area.split_vertically(53.percent_height());
    draw_rates(&rates, &summary.series)?;
    draw_latencies(&latencies, &summary.series)?;
    area.present()
}

fn draw_rates<'a>(area: &Area<'a>, series: &[Second]) -> Result<(), DrawError<'a>> {
    let curves = [
        curve("published/s", BLUE, series, |second| {
            Some(second.published_per_second)
        }),
        curve("confirmed/s", ORANGE, series, |second| {
            Some(second.confirmed_per_second)
        }),
        curve("consumed/s", GREEN, series, |second| {
            Some(second.consumed_per_second)
        }),
    ];
    let top = highest(&curves) * 1.08;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..last(series), 0.0..top)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .label_style((FONT, 17))
        .y_desc("messages per second")
        .x_label_formatter(&|x| seconds(*x))
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    for curve in curves {
        curve.draw(&mut chart)?;
    }
    legend(&mut chart)
}

fn draw_latencies<'a>(area: &Area<'a>, series: &[Second]) -> Result<(), DrawError<'a>> {
    let of = |latency: &Option<Latency>, pick: fn(&Latency) -> f64| latency.as_ref().map(pick);
    let curves = [
        curve("latency p50", BLUE, series, |second| {
            of(&second.latency, |latency| latency.p50)
        }),
        curve("latency p99", RED, series, |second| {
            of(&second.latency, |latency| latency.p99)
        }),
        curve("confirm p50", ORANGE, series, |second| {
            of(&second.confirm_latency, |latency| latency.p50)
        }),
        curve("confirm p99", GREEN, series, |second| {
            of(&second.confirm_latency, |latency| latency.p99)
        }),
    ];
    let values = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let (low, high) = values.fold((f64::MAX, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let (low, high) = if high > 0.0 {
        (low.max(1.0), high.max(2.0))
    } else {
        (1.0, 1000.0)
    };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..last(series), (low * 0.7..high * 1.4).log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .label_style((FONT, 17))
        .x_desc("seconds")
        .y_desc("latency")
        .x_label_formatter(&|x| seconds(*x))
        .y_label_formatter(&|y| time(*y))
        .draw()?;
    for curve in curves {
        curve.draw(&mut chart)?;
    }
    legend(&mut chart)
}

fn curve(
    name: &'static str,
    color: RGBColor,
    series: &[Second],
    value: impl Fn(&Second) -> Option<f64>,
) -> Curve {
    let points = series
        .iter()
        .filter_map(|second| Some((second.at, value(second)?)));
    Curve {
        name,
        color,
        points: points.filter(|(_, value)| *value > 0.0).collect(),
    }
}

type Chart<'a, 'b, Y> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

impl Curve {
    fn draw<'b, Y>(self, chart: &mut Chart<'_, 'b, Y>) -> Result<(), DrawError<'b>>
    where
        Y: Ranged<ValueType = f64>,
    {
        let Self {
            name,
            color,
            points,
        } = self;
        if points.is_empty() {
            return Ok(());
        }
        let line = LineSeries::new(points, color.stroke_width(2));
        chart
            .draw_series(line)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        Ok(())
    }
}

fn legend<'a, 'b, Y>(chart: &mut Chart<'a, 'b, Y>) -> Result<(), DrawError<'b>>
where
    'b: 'a,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 17))
        .draw()
}

fn last(series: &[Second]) -> f64 {
    series.last().map_or(1.0, |second| second.at).max(1.0)
}

fn highest(curves: &[Curve]) -> f64 {
    let values = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    values.fold(1.0, f64::max)
}

/// Whole seconds have a label.
fn seconds(at: f64) -> String {
    if at.fract() == 0.0 {
        format!("{at:.0}")
    } else {
        String::new()
    }
}

/// A rate in few characters.
fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}
