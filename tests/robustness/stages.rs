//! The whole compiler over a source, watched: what panics, hangs or is our own fault is an error.

use super::corpus::Source;
use mdlc::diag::Fault;
use mdlc::driver::Error;
use mdlc::runtime::Compiled;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// No source of a few kilobytes may take longer, even in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// # Units
/// Bytes of stack that a user of the library has on any of his own threads.
const STACK_BYTES: usize = 2 << 20;

/// How far a source went.
#[derive(Debug)]
pub struct Outcome {
    /// How long its elaboration took, errors included.
    pub elaboration: Duration,
    /// The code, or the errors.
    pub result: Result<Compiled, Error>,
}

/// Sends a source through every stage.
///
/// # Errors
/// A breach of what is promised, in words: a panic, too much time, an error without a place in the
/// source, more than 20 of them, or a fault that is not the user's.
pub fn compile(source: &Source) -> Result<Outcome, String> {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| panic::set_hook(Box::new(note_panic)));
    let (done, result) = mpsc::channel();
    let mine = source.clone();
    let worker = thread::Builder::new().stack_size(STACK_BYTES);
    let worker = worker.spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| all_stages(&mine)));
        // The other end is gone where this took too long.
        let _ = done.send(outcome);
    });
    let outcome = match result.recv_timeout(LIMIT) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => return Err(format!("a panic {}", last_panic())),
        Err(_) => return Err(format!("it takes more than {LIMIT:?}")),
    };
    worker.unwrap().join().unwrap();
    if let Err(error) = &outcome.result {
        check(error)?;
    }
    Ok(outcome)
}

fn all_stages(source: &Source) -> Outcome {
    let started = Instant::now();
    let unit = source.compiler.elaborate_source(&source.name, &source.text, &source.folder);
    let elaboration = started.elapsed();
    let result = unit.and_then(|mut unit| {
        unit.optimise(None)?;
        let loops = unit.lower()?;
        unit.generate(loops, false)
    });
    Outcome { elaboration, result }
}

/// Whether errors are what is promised.
fn check(error: &Error) -> Result<(), String> {
    if error.diagnostics.is_empty() || error.diagnostics.len() > 20 {
        return Err(format!("{} diagnostics", error.diagnostics.len()));
    }
    // Rendering finds labels that lie outside their text or split a character.
    let text = catch_unwind(|| error.to_string());
    let text = text.map_err(|_| format!("a panic in rendering {}", last_panic()))?;
    for diagnostic in &error.diagnostics {
        if !matches!(diagnostic.fault, Fault::User | Fault::Limit | Fault::File) {
            return Err(format!("a fault of our own, {}:\n{text}", last_panic()));
        }
        if diagnostic.title.is_empty() {
            return Err(format!("an error without words:\n{text}"));
        }
    }
    Ok(())
}

/// The place and the words of the last panic of any thread: stages catch those of their own threads.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn note_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(String::new, |l| format!("at {}:{}", l.file(), l.line()));
    let words = info.payload_as_str().unwrap_or("without words");
    *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = format!("{place}: {words}");
    // Those of the tests themselves are still to be read.
    if thread::current().name().is_some_and(|name| name.contains("::")) {
        println!("{info}");
    }
}

fn last_panic() -> String {
    let mut last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *last, "with no panic seen".into())
}
