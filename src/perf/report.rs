//! What the user reads: a line per second while the load runs, and a summary at its end.

use std::io::{self, Write};

use super::summary::{Cpu, Latency, Second, Summary};

/// The line for one second. Columns that say nothing are left out.
pub(super) fn line(second: &Second) -> String {
    let mut parts = vec![format!("{:6.1} s", second.at)];
    for (word, rate) in [
        ("published", second.published_per_second),
        ("confirmed", second.confirmed_per_second),
        ("consumed", second.consumed_per_second),
    ] {
        if rate > 0.0 || word == "published" {
            parts.push(format!("{word} {:>11}/s", whole(rate)));
        }
    }
    for (word, latency) in [
        ("latency", &second.latency),
        ("confirm", &second.confirm_latency),
    ] {
        if let Some(Latency { p50, p99, .. }) = latency {
            parts.push(format!(
                "{word} p50 {:>8} p99 {:>8}",
                time(*p50),
                time(*p99)
            ));
        }
    }
    for (word, count) in [
        ("nacked", second.nacked),
        ("returned", second.returned),
        ("blocked", second.blocked),
    ] {
        if count > 0 {
            parts.push(format!("{word} {count}"));
        }
    }
    if second.warm_up {
        parts.push("(warm-up)".into());
    }
    parts.join("  ")
}

/// The summary, for people.
pub(super) fn text(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nbroker      {}", summary.broker)?;
    let seconds = summary.seconds;
    writeln!(
        out,
        "measured    {seconds:.2} s after {:.1} s of warm-up",
        summary.warm_up_seconds
    )?;
    let mib = |rate: f64| format!("{rate:.1} MiB/s");
    for (word, total, rate, mib) in [
        (
            "published",
            summary.published,
            summary.published_per_second,
            mib(summary.published_mib_per_second),
        ),
        (
            "confirmed",
            summary.confirmed,
            summary.confirmed_per_second,
            String::new(),
        ),
        (
            "consumed",
            summary.consumed,
            summary.consumed_per_second,
            mib(summary.consumed_mib_per_second),
        ),
    ] {
        if total > 0 {
            writeln!(
                out,
                "{word:<11} {:>14} {:>13}/s  {mib}",
                whole(total as f64),
                whole(rate)
            )?;
        }
    }
    for (word, count) in [
        ("nacked", summary.nacked),
        ("returned", summary.returned),
        ("foreign", summary.foreign),
        ("blocked", summary.blocked),
    ] {
        if count > 0 {
            writeln!(out, "{word:<11} {:>14}", whole(count as f64))?;
        }
    }
    distribution("latency", summary.latency.as_ref(), out)?;
    distribution("confirm", summary.confirm_latency.as_ref(), out)?;
    costs(summary, out)?;
    if let Some(verdict) = &summary.check {
        writeln!(out, "check       {verdict}")?;
    }
    for error in &summary.errors {
        writeln!(out, "error       {error}")?;
    }
    Ok(())
}

fn distribution(word: &str, latency: Option<&Latency>, out: &mut impl Write) -> io::Result<()> {
    let Some(latency) = latency else {
        return Ok(());
    };
    let parts = [
        ("min", latency.min),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("p99.99", latency.p99_99),
        ("max", latency.max),
        ("mean", latency.mean),
    ];
    let parts = parts.map(|(name, us)| format!("{name} {}", time(us)));
    writeln!(out, "{word:<11} {}", parts.join("  "))
}

fn costs(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let cpu = |cpu: &Cpu| {
        let each = cpu
            .us_per_message
            .map(|us| format!(", {us:.3} us per message"));
        format!("{:.2} s of CPU{}", cpu.seconds, each.unwrap_or_default())
    };
    writeln!(out, "perf itself {}", cpu(&summary.perf_cpu))?;
    if let Some(broker) = &summary.broker_cpu {
        writeln!(out, "the broker  {}", cpu(broker))?;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    if let Some(memory) = &summary.broker_memory {
        let [before, after, peak] = [memory.before, memory.after, memory.peak].map(mib);
        writeln!(
            out,
            "its memory  {before:.1} MiB before, {after:.1} MiB after, {peak:.1} MiB at most"
        )?;
    }
    if let Some(idle) = &summary.idle {
        let each = idle
            .broker_bytes_each
            .map(|bytes| format!(", {:.1} KiB each in the broker", bytes as f64 / 1024.0));
        let (connections, seconds) = (idle.connections, idle.open_seconds);
        writeln!(
            out,
            "idle        {connections} connections, opened in {seconds:.2} s{}",
            each.unwrap_or_default()
        )?;
    }
    if let Some(rate) = summary.churned_per_second {
        writeln!(
            out,
            "churn       {rate:.0} bindings made and removed per second"
        )?;
    }
    Ok(())
}

/// A number without decimals, in groups of three digits.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time in the unit that suits it.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0.0, 999.4, 1000.0, 123_456.0, 12_345_678.0].map(whole);
        assert_eq!(shown, ["0", "999", "1,000", "123,456", "12,345,678"]);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_suits_them() {
        let shown = [54.4, 999.0, 1500.0, 15_000.0, 2_500_000.0].map(time);
        assert_eq!(shown, ["54 us", "999 us", "1.50 ms", "15.0 ms", "2.50 s"]);
    }

    #[test]
    fn a_failed_check_and_errors_are_in_the_summary() {
        let summary = Summary {
            published: 3,
            check: Some(super::super::check::Verdict {
                lost: Some(1),
                ..Default::default()
            }),
            errors: vec!["it broke".into()],
            ..Summary::default()
        };
        let mut out = Vec::new();
        text(&summary, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("FAILED: 0 promised, 1 lost") && out.contains("it broke"),
            "{out}"
        );
        assert!(!summary.passed());
    }
}
