//! One call as trace events, which Perfetto and Chrome's tracing page show.
//!
//! A complete event (`"ph": "X"`) for the call, for each run of a mark on the calling thread, and for
//! each task on the thread that ran it; times are microseconds.

use super::Name;
use crate::runtime::{Recorder, Span};
use serde_json::{Value as Json, json};

/// The text of a trace file.
pub fn text(recorder: &Recorder, names: &[Name], model: &str) -> String {
    let (mut spans, dropped) = recorder.spans();
    spans.sort_by_key(|span| (span.thread, span.begin, std::cmp::Reverse(span.end)));
    let start = spans.iter().map(|span| span.begin).min().unwrap_or(0);
    let threads = spans.iter().map(|span| span.thread).max().unwrap_or(0);
    let mut events: Vec<Json> = (0..=threads).map(thread).collect();
    events.push(json!({ "ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": { "name": model } }));
    events.extend(spans.iter().map(|span| event(span, names, model, start)));
    json!({
        "displayTimeUnit": "ns",
        "otherData": { "model": model, "dropped": dropped },
        "traceEvents": events,
    })
    .to_string()
}

fn thread(number: usize) -> Json {
    let name = if number == 0 { "calling thread".to_string() } else { format!("thread {number}") };
    json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": { "name": name } })
}

fn event(span: &Span, names: &[Name], model: &str, start: u64) -> Json {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let name = span.node.and_then(|node| names.get(node));
    let category = match name {
        _ if span.task => "task",
        None => "model",
        Some(name) if name.is_call => "call",
        Some(_) => "kernel",
    };
    json!({
        "ph": "X",
        "name": name.map_or(model, |name| &name.what),
        "cat": category,
        "pid": 1,
        "tid": span.thread,
        "ts": microseconds(span.begin - start),
        "dur": microseconds(span.end.saturating_sub(span.begin)),
        "args": name.map(|name| json!({ "place": name.place, "module": name.module })),
    })
}
