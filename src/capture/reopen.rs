//! A source that comes back: opened again, with backoff, whenever it is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::clock::{RealTime, Time};
use crate::types::Frame;

use super::{CameraConfig, FrameSource, Pace, SourceError, StreamFormat};

/// Opens the source; the argument is the number of its first frame.
pub type Opener = Box<dyn FnMut(u64) -> Result<Box<dyn FrameSource>, SourceError> + Send>;

/// The wait before a lost source is opened again; it doubles with every failure in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The longest wait: a device that returns must be seen within 2 seconds, the time to open it included.
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// Where a source stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No frame yet, and no failure either.
    Waiting,
    Streaming(StreamFormat),
    /// It gives no frames, for the reason told, and is tried again until it does.
    Lost {
        problem: String,
    },
    /// It was not endless, and all of it was seen.
    Ended,
}

/// What comes of a source.
#[derive(Debug)]
pub enum Event {
    Frame(Frame),
    /// The state changed; told once for each change, and before the first frame that it brings.
    State(State),
}

/// A source that is opened again whenever it fails, stalls or panics; it never fails itself.
///
/// A capture thread is a loop over [`Reopening::next`] until it is told to stop, or until [`State::Ended`].
pub struct Reopening<T: Time = RealTime> {
    open: Opener,
    timeout: Duration,
    time: T,
    source: Option<Running>,
    state: State,
    /// A frame that waits until the change of state before it was told.
    pending: Option<Frame>,
    told_start: bool,
    backoff: Duration,
    retry_at: Option<Instant>,
    next_seq: u64,
    streamed: u64,
}

/// A source that is open.
struct Running {
    source: Box<dyn FrameSource>,
    /// Longest time without a frame before the source counts as lost.
    stall: Duration,
    /// When the last frame came, or the source was opened.
    alive_at: Instant,
    /// Whether a frame came.
    streaming: bool,
}

impl Reopening {
    /// The source that `config` describes.
    pub fn camera(config: CameraConfig, pace: Pace) -> Reopening {
        let timeout = Duration::from_millis(config.timeout_ms);
        Reopening::new(Box::new(move |resume_from| super::open(&config, pace, resume_from)), timeout, RealTime)
    }
}

impl<T: Time> Reopening<T> {
    /// What `open` opens. It counts as lost when no frame comes for `timeout`, or for two frames and a half where
    /// the source is so slow that this is longer.
    pub fn new(open: Opener, timeout: Duration, time: T) -> Reopening<T> {
        Reopening {
            open,
            timeout,
            time,
            source: None,
            state: State::Waiting,
            pending: None,
            told_start: false,
            backoff: BACKOFF_FIRST,
            retry_at: None,
            next_seq: 0,
            streamed: 0,
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many times frames came again after the source had been lost.
    pub fn reopened(&self) -> u64 {
        self.streamed.saturating_sub(1)
    }

    /// The next frame or change of state; `None` when there was neither until `deadline`, and for ever after
    /// [`State::Ended`].
    pub fn next(&mut self, deadline: Instant) -> Option<Event> {
        if !self.told_start {
            self.told_start = true;
            return Some(Event::State(State::Waiting));
        }
        if let Some(frame) = self.pending.take() {
            return Some(Event::Frame(frame));
        }
        loop {
            if self.state == State::Ended {
                self.sleep_until(deadline);
                return None;
            }
            let progress = match self.source.take() {
                Some(running) => self.read(running, deadline),
                None => self.try_open(deadline),
            };
            match progress {
                Progress::Event(event) => return Some(event),
                Progress::Nothing => {}
                Progress::DeadlinePassed => return None,
            }
        }
    }

    /// Opens the source once its time has come.
    fn try_open(&mut self, deadline: Instant) -> Progress {
        if let Some(retry_at) = self.retry_at {
            self.sleep_until(retry_at.min(deadline));
            if self.time.now() < retry_at {
                return Progress::DeadlinePassed;
            }
        }
        let next_seq = self.next_seq;
        match guarded(|| (self.open)(next_seq)) {
            Ok(source) => {
                let stall = stall_of(self.timeout, source.format().fps);
                let alive_at = self.time.now();
                self.source = Some(Running { source, stall, alive_at, streaming: false });
                Progress::Nothing
            }
            Err(error) => self.lose(error.to_string()),
        }
    }

    /// Waits for the source's next frame.
    fn read(&mut self, mut running: Running, deadline: Instant) -> Progress {
        let stalled_at = running.alive_at + running.stall;
        match guarded(|| running.source.next(deadline.min(stalled_at))) {
            Ok(Some(frame)) => {
                running.alive_at = self.time.now();
                self.next_seq = frame.meta.seq.saturating_add(1);
                let first = !std::mem::replace(&mut running.streaming, true);
                let format = first.then(|| running.source.format());
                if let Some(format) = &format {
                    // Some sources learn their rate with it.
                    running.stall = stall_of(self.timeout, format.fps);
                }
                self.source = Some(running);
                let Some(format) = format else { return Progress::Event(Event::Frame(frame)) };
                self.streamed += 1;
                self.backoff = BACKOFF_FIRST;
                self.pending = Some(frame);
                self.change(State::Streaming(format))
            }
            Ok(None) => {
                discard(running.source);
                self.change(State::Ended)
            }
            Err(SourceError::Timeout(_)) if self.time.now() < stalled_at => {
                self.source = Some(running);
                Progress::DeadlinePassed
            }
            Err(SourceError::Timeout(what)) if running.source.outlasts_silence() => {
                (running.alive_at, running.streaming) = (self.time.now(), false);
                self.source = Some(running);
                self.change(State::Lost { problem: SourceError::Timeout(what).to_string() })
            }
            Err(error) => {
                discard(running.source);
                self.lose(error.to_string())
            }
        }
    }

    fn lose(&mut self, problem: String) -> Progress {
        self.retry_at = Some(self.time.now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MOST);
        self.change(State::Lost { problem })
    }

    fn change(&mut self, state: State) -> Progress {
        if state == self.state {
            return Progress::Nothing;
        }
        self.state = state.clone();
        Progress::Event(Event::State(state))
    }

    fn sleep_until(&self, until: Instant) {
        let left = until.saturating_duration_since(self.time.now());
        if !left.is_zero() {
            self.time.sleep(left);
        }
    }
}

impl<T: Time> Drop for Reopening<T> {
    fn drop(&mut self) {
        if let Some(running) = self.source.take() {
            discard(running.source);
        }
    }
}

/// How long a source of a rate may be silent.
fn stall_of(timeout: Duration, fps: Option<f32>) -> Duration {
    /// No camera is so slow; a driver that tells such a rate is wrong.
    const LONGEST: f64 = 3600.0;
    let seconds = fps.filter(|fps| *fps > 0.0).map_or(0.0, |fps| (2.5 / f64::from(fps)).min(LONGEST));
    timeout.max(Duration::from_secs_f64(seconds))
}

enum Progress {
    Event(Event),
    Nothing,
    DeadlinePassed,
}

/// Runs code of a camera library; what panics there is a lost source, and not the end of the daemon.
fn guarded<V>(run: impl FnOnce() -> Result<V, SourceError>) -> Result<V, SourceError> {
    // Whatever the panic left half done goes with the source, which is dropped and opened again.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<&str>().map(ToString::to_string);
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(SourceError::Unsupported(format!("the camera library failed: {message}")))
    })
}

fn discard(source: Box<dyn FrameSource>) {
    let _ = guarded(|| {
        drop(source);
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::types::{FrameMeta, PixelBuf, PixelFormat, Timestamp};

    /// Time that passes only when someone sleeps.
    #[derive(Clone)]
    struct SimulatedTime(Arc<Mutex<Instant>>);

    impl SimulatedTime {
        fn new() -> SimulatedTime {
            SimulatedTime(Arc::new(Mutex::new(Instant::now())))
        }
    }

    impl Time for SimulatedTime {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    /// What a fake source does when it is asked for a frame.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Act {
        /// Gives a frame after so many milliseconds.
        Frame(u64),
        /// The same, and is better left open until then.
        Late(u64),
        /// Never gives a frame again.
        Hang,
        Fail(&'static str),
        Panic,
        End,
    }

    struct Fake {
        acts: VecDeque<Act>,
        seq: u64,
        fps: f32,
        time: SimulatedTime,
        panic_on_drop: bool,
    }

    impl FrameSource for Fake {
        fn format(&self) -> StreamFormat {
            StreamFormat { source: "fake".into(), pixels: "GREY".into(), width: 1, height: 1, fps: Some(self.fps) }
        }

        fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
            let left = deadline.saturating_duration_since(self.time.now());
            match self.acts.front_mut() {
                Some(Act::Frame(wait) | Act::Late(wait)) if Duration::from_millis(*wait) <= left => {
                    self.time.sleep(Duration::from_millis(*wait));
                    self.acts.pop_front();
                    let meta = FrameMeta {
                        camera: "fake".into(),
                        seq: self.seq,
                        captured_at: Timestamp::default(),
                        dropped: 0,
                        width: 1,
                        height: 1,
                    };
                    self.seq += 1;
                    let pixels = PixelBuf::packed(PixelFormat::Grey, 1, 1, vec![0]).unwrap();
                    Ok(Some(Frame { meta, pixels }))
                }
                Some(Act::Frame(wait) | Act::Late(wait)) => {
                    self.time.sleep(left);
                    *wait -= left.as_millis() as u64;
                    Err(SourceError::Timeout("fake".into()))
                }
                Some(Act::Hang) => {
                    self.time.sleep(left);
                    Err(SourceError::Timeout("fake".into()))
                }
                Some(Act::Fail(why)) => Err(SourceError::Disconnected((*why).into())),
                Some(Act::Panic) => panic!("inside the library"),
                Some(Act::End) | None => Ok(None),
            }
        }

        fn outlasts_silence(&self) -> bool {
            matches!(self.acts.front(), Some(Act::Late(_)))
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            assert!(!self.panic_on_drop, "in drop");
        }
    }

    /// What each opening in turn brings: a source that acts so, or a failure. The last one repeats.
    fn fake(openings: Vec<Result<Vec<Act>, SourceError>>, fps: f32) -> (Reopening<SimulatedTime>, SimulatedTime) {
        let time = SimulatedTime::new();
        let inner = time.clone();
        let mut openings = VecDeque::from(openings);
        let opener: Opener = Box::new(move |seq| {
            let acts = match openings.pop_front() {
                Some(Ok(acts)) => acts,
                Some(Err(error)) => return Err(error),
                None => return Err(SourceError::NotFound("fake".into())),
            };
            let panic_on_drop = acts.contains(&Act::Panic);
            Ok(Box::new(Fake { acts: acts.into(), seq, fps, time: inner.clone(), panic_on_drop }))
        });
        (Reopening::new(opener, Duration::from_secs(1), time.clone()), time)
    }

    /// Runs for so many milliseconds, and tells what came, at what millisecond.
    fn run(reopening: &mut Reopening<SimulatedTime>, time: &SimulatedTime, ms: u64) -> Vec<String> {
        let start = time.now();
        let mut told = Vec::new();
        while time.now() < start + Duration::from_millis(ms) {
            let event = reopening.next(time.now() + Duration::from_millis(250));
            let at = (time.now() - start).as_millis();
            match event {
                Some(Event::Frame(frame)) => told.push(format!("{at} frame {}", frame.meta.seq)),
                Some(Event::State(State::Waiting)) => told.push(format!("{at} waiting")),
                Some(Event::State(State::Streaming(format))) => told.push(format!("{at} streaming {format}")),
                Some(Event::State(State::Lost { problem })) => told.push(format!("{at} lost: {problem}")),
                Some(Event::State(State::Ended)) => told.push(format!("{at} ended")),
                None => {}
            }
        }
        told
    }

    const STREAMING: &str = "streaming GREY 1x1 at 30 fps from fake";

    #[test]
    fn a_source_that_ends_is_not_opened_again() {
        let (mut source, time) = fake(vec![Ok(vec![Act::Frame(40), Act::Frame(40), Act::End])], 30.0);
        let told = run(&mut source, &time, 5000);
        assert_eq!(told, ["0 waiting", &format!("40 {STREAMING}"), "40 frame 0", "80 frame 1", "80 ended"]);
        assert_eq!((source.state(), source.reopened()), (&State::Ended, 0));
    }

    #[test]
    fn a_device_that_is_unplugged_comes_back_with_numbers_that_go_on() {
        let gone = || Err(SourceError::NotFound("fake".into()));
        let mut openings = vec![Ok(vec![Act::Frame(0), Act::Frame(40), Act::Fail("it")])];
        openings.extend((0..6).map(|_| gone()));
        openings.push(Ok(vec![Act::Frame(40), Act::Hang]));
        let (mut source, time) = fake(openings, 30.0);
        let told = run(&mut source, &time, 5200);
        let expected = [
            "0 waiting",
            &format!("0 {STREAMING}"),
            "0 frame 0",
            "40 frame 1",
            "40 lost: it is gone",
            // Opened at 140, 340, 740, 1540, 2540, 3540 in vain, and told of it once.
            "140 lost: fake does not exist; `tagalong devices` lists what is there",
            &format!("4580 {STREAMING}"),
            "4580 frame 2",
        ];
        assert_eq!(told, expected);
        assert_eq!(source.reopened(), 1);
    }

    #[test]
    fn a_device_that_came_back_is_tried_as_soon_the_next_time() {
        let gone = || Err(SourceError::NotFound("fake".into()));
        let frame = || Ok(vec![Act::Frame(0), Act::Fail("it")]);
        let (mut source, time) = fake(vec![frame(), gone(), gone(), gone(), frame(), frame()], 30.0);
        let told = run(&mut source, &time, 2000);
        let streamed: Vec<_> = told.iter().filter_map(|line| line.strip_suffix(STREAMING)).collect();
        // After waits of 100, 200, 400 and 800 ms, and then of 100.
        assert_eq!(streamed, ["0 ", "1500 ", "1600 "]);
        assert_eq!(source.reopened(), 2);
    }

    #[test]
    fn a_device_that_opens_but_gives_nothing_is_lost_once() {
        let silent = || Ok(vec![Act::Hang]);
        let (mut source, time) = fake(vec![Ok(vec![Act::Frame(0), Act::Hang]), silent(), silent(), silent()], 30.0);
        let told = run(&mut source, &time, 4000);
        assert_eq!(
            told,
            ["0 waiting", &format!("0 {STREAMING}"), "0 frame 0", "1000 lost: no frame from fake in time"]
        );
        assert_eq!(source.reopened(), 0);
    }

    #[test]
    fn a_slow_source_is_not_a_lost_one() {
        let (mut source, time) = fake(vec![Ok(vec![Act::Frame(0), Act::Frame(2000), Act::Hang])], 0.5);
        let told = run(&mut source, &time, 7000);
        let streaming = "0 streaming GREY 1x1 at 0.5 fps from fake";
        let lost = "7000 lost: no frame from fake in time";
        assert_eq!(told, ["0 waiting", streaming, "0 frame 0", "2000 frame 1", lost]);
    }

    #[test]
    fn what_outlasts_silence_is_told_as_lost_and_not_opened_again() {
        let acts = vec![Act::Frame(0), Act::Late(2500), Act::Frame(40), Act::End];
        let (mut source, time) = fake(vec![Ok(acts)], 30.0);
        let told = run(&mut source, &time, 4000);
        let expected = [
            "0 waiting",
            &format!("0 {STREAMING}"),
            "0 frame 0",
            "1000 lost: no frame from fake in time",
            &format!("2500 {STREAMING}"),
            "2500 frame 1",
            "2540 frame 2",
            "2540 ended",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn whatever_rate_a_driver_tells_the_wait_has_an_end() {
        let stall = |fps| stall_of(Duration::from_secs(1), fps).as_secs_f64();
        assert_eq!([stall(None), stall(Some(30.0)), stall(Some(0.5))], [1.0, 1.0, 5.0]);
        assert_eq!([stall(Some(0.0)), stall(Some(f32::NAN)), stall(Some(-1.0))], [1.0; 3]);
        assert_eq!([stall(Some(1e-45)), stall(Some(f32::INFINITY))], [3600.0, 1.0]);
    }

    #[test]
    fn a_library_that_panics_is_a_lost_device() {
        let openings = vec![Ok(vec![Act::Frame(0), Act::Panic]), Ok(vec![Act::Frame(0), Act::End])];
        let (mut source, time) = fake(openings, 30.0);
        let told = run(&mut source, &time, 1000);
        let lost = "0 lost: the camera library failed: inside the library";
        let expected = [
            "0 waiting",
            &format!("0 {STREAMING}"),
            "0 frame 0",
            lost,
            &format!("100 {STREAMING}"),
            "100 frame 1",
            "100 ended",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_opener_that_panics_is_tried_again() {
        let time = SimulatedTime::new();
        let mut tries = 0;
        let opener: Opener = Box::new(move |_| {
            tries += 1;
            panic!("try {}", tries / 3)
        });
        let mut source = Reopening::new(opener, Duration::from_secs(1), time.clone());
        let told = run(&mut source, &time, 600);
        let problem = "lost: the camera library failed: try";
        assert_eq!(told, ["0 waiting", &format!("0 {problem} 0"), &format!("300 {problem} 1")]);
    }

    /// However long a device was away, it streams again at most a second and the time of opening after it is back.
    #[test]
    fn the_wait_never_grows_beyond_a_second() {
        let time = SimulatedTime::new();
        let (opened, inner) = (Arc::new(Mutex::new(Vec::new())), time.clone());
        let log = opened.clone();
        let opener: Opener = Box::new(move |_| {
            log.lock().unwrap().push(inner.now());
            Err(SourceError::NotFound("fake".into()))
        });
        let mut source = Reopening::new(opener, Duration::from_secs(1), time.clone());
        run(&mut source, &time, 100_000);
        let opened = opened.lock().unwrap();
        let waits: Vec<_> = opened.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(waits[..5], [100, 200, 400, 800, 1000]);
        assert!(waits.len() > 90 && waits[4..].iter().all(|wait| *wait == 1000));
    }
}
