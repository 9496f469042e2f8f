//! Work that may hang, off the loop: each piece in a thread of its own. The runtime has threads for that, too, but ends the process when
//! the system gives it none. How many there are at once is for the callers to limit.

use std::io;

use tokio::sync::oneshot;

/// Does `work` in a thread called `name`. Cancelling this does not cancel the work, whose outcome is lost then.
///
/// # Errors
/// The system has no thread to give.
pub async fn run<T: Send + 'static>(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, outcome) = oneshot::channel();
    // Not joined: it may outlive the loop. Nobody may wait any more when it is done.
    std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(done.send(work())))?;
    outcome.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_elsewhere_and_does_not_hold_up_who_waits_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let here = std::thread::current().id();
            assert_ne!(run("test", || std::thread::current().id()).await.unwrap(), here);
            let (open, gate) = std::sync::mpsc::channel::<()>();
            let mut hung = Box::pin(run("test", move || gate.recv().is_err()));
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(hung.as_mut().poll(cx).is_pending())).await);
            drop(hung);
            drop(open);
        });
    }
}
