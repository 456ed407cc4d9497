use std::time::Duration;

use super::daemon::Daemon;
use super::out;
use super::table::duration_words;
use crate::types::Answer;
use crate::types::command::{BudgetReason, BudgetStatus, CameraStatus, Confinement, SandboxStatus, Status};

/// Tell how the daemon is.
///
/// Its model, and for each camera: what it delivers, how fast frames come through, how many were lost, and how long
/// each stage takes. A camera with a problem says what it is. The first thing to look at when tracks look wrong or
/// late.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Everything, for people:
      tagalong status

  Whether every camera streams, for a script:
      tagalong status --json | jq -e 'all(.cameras[]; .state == \"streaming\")'";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let status = self.daemon.control()?.status()?;
        if self.json {
            return out::json(&Answer::Status(Box::new(status)));
        }
        out::print(&render(&status))
    }
}

fn render(status: &Status) -> String {
    let Status { version, boot_id, uptime_s, model, budget, cameras, clients, memory_bytes, cpu, sandbox, warnings } =
        status;
    let digest: String = model.sha256.chars().take(12).collect();
    let mib = *memory_bytes as f64 / f64::from(1 << 20);
    let with = model.device.as_deref().or(model.kernel.as_deref());
    let mut text = format!(
        "tagalong {version}, up {}, {mib:.0} MiB resident{}, boot {boot_id}\n\
         model    {} ({}) on {}{}, probe {:.4}, sha256 {digest}\n\
         clients  {} connected, {} refused, {} reports lost by slow ones\n",
        duration_words(seconds(*uptime_s)),
        cpu.map_or(String::new(), |cpu| format!(", {:.0}% of the CPU", 100.0 * cpu)),
        model.name,
        model.family,
        model.runtime,
        with.map_or(String::new(), |with| format!(" with {}", out::harmless(with))),
        model.probe_cosine,
        clients.connected,
        clients.refused,
        clients.dropped_reports,
    );
    if let Some(why) = &model.instead {
        text.push_str(&format!("         no graphics processor: {}\n", out::harmless(why)));
    }
    if let Some(SandboxStatus { files, system_calls }) = sandbox {
        let how = |layer: &Confinement| {
            format!("{}{}", if layer.confined { "" } else { "not confined, " }, out::harmless(&layer.detail))
        };
        text.push_str(&format!("sandbox  files: {}\n         system calls: {}\n", how(files), how(system_calls)));
    }
    for warning in warnings {
        text.push_str(&format!("warning  {}\n", out::harmless(warning)));
    }
    if let Some(budget) = budget {
        text.push_str(&render_budget(budget));
    }
    for camera in cameras {
        text.push('\n');
        text.push_str(&render_camera(camera));
    }
    text
}

/// What is to be held, whether it is, and what was done for it.
fn render_budget(budget: &BudgetStatus) -> String {
    let asked = [
        budget.target_fps.map(|fps| format!("{fps:.1} reports/s of each camera")),
        budget.cpu_share.map(|share| format!("{:.0}% of the CPU", 100.0 * share)),
    ];
    let asked = asked.into_iter().flatten().collect::<Vec<_>>().join(" within ");
    let held = match &budget.problem {
        None => "met".to_owned(),
        Some(problem) => format!("missed: {}", out::harmless(problem)),
    };
    let ([width, height], [full_width, full_height]) = (budget.input, budget.configured_input);
    let lowered = if budget.input == budget.configured_input {
        String::new()
    } else {
        format!(" instead of {full_width}x{full_height}")
    };
    let rate = budget.max_fps.map_or("every frame".into(), |fps| format!("at most {fps:.1} frames/s"));
    let reason = match budget.reason {
        BudgetReason::Start => "as configured",
        BudgetReason::FpsMissed => "because too few frames were reported",
        BudgetReason::CpuExceeded => "because too much of the CPU was taken",
        BudgetReason::Room => "since there was room for it",
        BudgetReason::Unknown => "for a reason that this version does not know",
    };
    format!(
        "budget   {asked}: {held}\n         \
         input {width}x{height}{lowered}, {rate}, {reason}, for {}\n         {:.0}% of the CPU is taken\n",
        duration_words(seconds(budget.since_s)),
        100.0 * budget.cpu,
    )
}

fn render_camera(camera: &CameraStatus) -> String {
    let [width, height] = camera.size;
    let format = camera.format.clone().unwrap_or_else(|| format!("{width}x{height}"));
    let tracks = if camera.tracks == 1 { "1 track".into() } else { format!("{} tracks", camera.tracks) };
    let mut text = format!(
        "camera {}: {} for {}, {}\n",
        out::harmless(&camera.name),
        camera.state,
        duration_words(seconds(camera.since_s)),
        out::harmless(&format),
    );
    if let Some(problem) = &camera.problem {
        text.push_str(&format!("  problem  {}\n", out::harmless(problem)));
    }
    let computed = match camera.computed {
        all if all >= 1.0 => String::new(),
        some => format!(", {:.0}% of the patches computed", 100.0 * some),
    };
    text.push_str(&format!("  rate     {:.1} reports/s, {tracks}{computed}\n", camera.fps));
    let reopened = match camera.reopened {
        0 => String::new(),
        1 => ", opened again once".into(),
        times => format!(", opened again {times} times"),
    };
    let skipped = if camera.skipped == 0 { String::new() } else { format!(", {} of them skipped", camera.skipped) };
    text.push_str(&format!(
        "  frames   {} captured, {} embedded, {} reported, {} lost{}{skipped}{reopened}\n",
        camera.captured,
        camera.embedded,
        camera.reported,
        camera.dropped,
        share(camera.dropped, camera.embedded + camera.dropped),
    ));
    if !camera.stages.is_empty() {
        let head = ["  stage", "last ms", "median", "p99"].map(str::to_owned);
        let ms = |value: f32| format!("{value:>7.1}");
        let stages = camera.stages.iter();
        let rows = stages.map(|s| [format!("  {}", s.stage), ms(s.last_ms), ms(s.median_ms), ms(s.p99_ms)]);
        text.push_str(&out::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    text
}

/// Seconds of a daemon's word, which may be anything.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 { String::new() } else { format!(" ({:.1}%)", part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::command::{ClientStatus, ModelStatus, StageStatus};

    fn status() -> Status {
        let stage =
            |stage: &str, last_ms, median_ms, p99_ms| StageStatus { stage: stage.into(), last_ms, median_ms, p99_ms };
        let camera = CameraStatus {
            name: "front".into(),
            state: "streaming".into(),
            problem: None,
            since_s: 3725.0,
            format: Some("MJPG 640x480 at 30 fps".into()),
            size: [640, 480],
            captured: 900,
            embedded: 890,
            reported: 890,
            dropped: 100,
            skipped: 0,
            computed: 1.0,
            reopened: 1,
            fps: 29.97,
            stages: vec![stage("embed", 31.25, 30.0, 44.0), stage("propagate", 5.0, 5.0, 6.0)],
            tracks: 1,
        };
        Status {
            version: "0.1.0".into(),
            boot_id: "b00t".into(),
            uptime_s: 3730.5,
            model: ModelStatus {
                name: "bundled".into(),
                family: "statistics".into(),
                sha256: "0123456789abcdef".into(),
                runtime: "cpu".into(),
                device: None,
                instead: None,
                kernel: Some("avx2".into()),
                probe_cosine: 1.0,
            },
            budget: None,
            cameras: vec![camera],
            clients: ClientStatus { connected: 2, refused: 0, dropped_reports: 4 },
            memory_bytes: 50 << 20,
            cpu: Some(0.4321),
            sandbox: Some(SandboxStatus {
                files: Confinement { confined: true, detail: "Landlock 7: reads little".into() },
                system_calls: Confinement { confined: false, detail: "seccomp refused: who knows".into() },
            }),
            warnings: vec!["system calls are not confined: seccomp refused: who knows".into()],
        }
    }

    #[test]
    fn a_status_reads_well() {
        let expected = "\
tagalong 0.1.0, up 1 h 2 min, 50 MiB resident, 43% of the CPU, boot b00t
model    bundled (statistics) on cpu with avx2, probe 1.0000, sha256 0123456789ab
clients  2 connected, 0 refused, 4 reports lost by slow ones
sandbox  files: Landlock 7: reads little
         system calls: not confined, seccomp refused: who knows
warning  system calls are not confined: seccomp refused: who knows

camera front: streaming for 1 h 2 min, MJPG 640x480 at 30 fps
  rate     30.0 reports/s, 1 track
  frames   900 captured, 890 embedded, 890 reported, 100 lost (10.1%), opened again once
  stage      last ms  median   p99
  embed         31.2     30.0     44.0
  propagate      5.0      5.0      6.0
";
        assert_eq!(render(&status()), expected);
    }

    #[test]
    fn a_status_says_who_computes() {
        let mut status = status();
        status.model.instead = Some("no driver".into());
        assert!(
            render(&status).contains(" on cpu with avx2, probe") && render(&status).contains("processor: no driver\n")
        );
        let device = Some("Orin".into());
        status.model = ModelStatus { runtime: "wgpu".into(), device, kernel: None, instead: None, ..status.model };
        assert!(render(&status).contains(" on wgpu with Orin, probe") && !render(&status).contains("processor:"));
    }

    #[test]
    fn a_budget_says_what_it_does_and_why() {
        let mut status = status();
        let mut budget = BudgetStatus {
            target_fps: Some(15.0),
            cpu_share: Some(0.5),
            met: false,
            problem: Some("front reports 8.0 of 15.0 frames a second".into()),
            cpu: 0.433,
            input: [448, 336],
            configured_input: [640, 480],
            max_fps: Some(10.0),
            reason: BudgetReason::CpuExceeded,
            since_s: 12.0,
        };
        status.cameras[0].skipped = 7;
        status.cameras[0].computed = 0.234;
        status.budget = Some(budget.clone());
        let text = render(&status);
        let expected = "
budget   15.0 reports/s of each camera within 50% of the CPU: missed: front reports 8.0 of 15.0 frames a second
         input 448x336 instead of 640x480, at most 10.0 frames/s, because too much of the CPU was taken, for 12 s
         43% of the CPU is taken
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("100 lost (10.1%), 7 of them skipped, opened again once"), "{text}");
        assert!(text.contains(", 23% of the patches computed\n"), "{text}");
        budget = BudgetStatus { met: true, problem: None, cpu_share: None, max_fps: None, ..budget };
        status.budget = Some(BudgetStatus { input: budget.configured_input, reason: BudgetReason::Start, ..budget });
        let text = render(&status);
        let expected = "
budget   15.0 reports/s of each camera: met
         input 640x480, every frame, as configured, for 12 s
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_problem_is_told_and_nonsense_is_survived() {
        let mut status = status();
        status.uptime_s = f64::NAN;
        status.cameras[0].since_s = -1.0;
        status.cameras[0].problem = Some("/dev/video0 is gone".into());
        status.cameras[0].stages.clear();
        let text = render(&status);
        assert!(text.contains("\n  problem  /dev/video0 is gone\n"), "{text}");
        assert!(text.contains("up 0 s,"), "{text}");
    }
}
