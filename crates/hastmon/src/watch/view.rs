//! How `watch` looks: a model becomes the cells of a screen, of whatever size. Decides nothing but that: what there is to show stands in the
//! model. Every text from outside goes through [`clean`], so nothing that the daemon or the history says can steer the terminal.

use std::time::Duration;

use hastmon_core::types::Role;
use hastmon_core::wire::detail::{Detail, NodeDetail, Trouble};
use hastmon_core::wire::reply::{Entry, ResourceStatus};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::model::{Mode, Model, Now, nodes};
use crate::os::log::format_line;
use crate::view::{Summary, summarize};

/// Columns that the name of a resource gets at least, and at most.
const NAME: (u16, u16) = (6, 24);
/// What marks a row stands before its name: `>` the selected one, `!` that something is wrong.
const MARK: u16 = 2;
/// Columns of the table after the name: its title, how wide it is, and which go first where there is no room (the highest number).
const COLUMNS: [(&str, u16, u8); 7] = [
    ("ROLE", 9, 3),
    ("STATE", 10, 1),
    ("PRIMARY", 8, 2),
    ("LEASE", 9, 4),
    ("VOTES", 5, 5),
    ("PROTECTION", 13, 7),
    ("STANDBY", 7, 6),
];
/// Columns of the nodes of a resource, with their widths.
const NODE_COLUMNS: [(&str, u16); 6] =
    [("NODE", 12), ("ROLE", 9), ("STATE", 10), ("CONNECTION", 13), ("SINCE", 7), ("PRIORITY", 8)];
/// Lines that what a command prints may take.
const COMMAND_LINES: u16 = 8;
/// With fewer lines than these the table has all of them.
const SMALL: u16 = 8;
/// Lines that a question may take at the bottom.
const PROMPT_LINES: usize = 3;

const KEYS: &str = "j/k select  s switch over  p pause  u resume  ? help  q quit";
const HELP: [&str; 13] = [
    "j, k, arrows   select a resource",
    "s              switch it over to another node; the node is asked for",
    "p              pause it: no start, stop or takeover",
    "u              resume it: end the pause",
    "Esc            put away what a command has printed",
    "Ctrl-L         draw everything again",
    "Ctrl-Z         stop watching for a while; fg goes on",
    "q, Ctrl-C      quit",
    "",
    "Before anything is changed there is a question. y does it; every other",
    "key, Enter too, does nothing. What began goes on when you quit.",
    "> selected   ! something is wrong: it is said below the table",
    "LEASE: how long it is held here; with a node: whom our vote is bound to",
];

/// What does not come from the model: whether colours are wanted, and the zone of times.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) has_colours: bool,
    pub(super) zone: TimeZone,
}

impl Look {
    fn of(&self, is_grave: bool) -> Style {
        let style = Style::new();
        match (self.has_colours, is_grave) {
            (true, true) => style.fg(Color::Red),
            (true, false) => style.fg(Color::Yellow),
            (false, _) => style,
        }
    }

    fn clock(&self, unix_ms: u64) -> String {
        let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }
}

const BOLD: Style = Style::new().bold();
const PLAIN: Style = Style::new();

/// A text from outside as it may stand on a terminal: on one line, and without control characters.
fn clean(text: &str) -> String {
    format_line(None, format_args!("{text}"))
}

/// Lines from the top down, as far as there is room.
struct Page<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl Page<'_> {
    /// The next lines, so many of them as there are.
    fn take(&mut self, lines: u16) -> Page<'_> {
        let area = Rect { height: lines.min(self.area.height), ..self.area };
        self.area.y += area.height;
        self.area.height -= area.height;
        Page { buffer: self.buffer, area }
    }

    fn line(&mut self, text: &str, style: Style) {
        self.parts(&[(text, style)]);
    }

    fn parts(&mut self, parts: &[(&str, Style)]) {
        let area = self.take(1).area;
        if area.height == 0 {
            return;
        }
        let end = area.right();
        let mut x = area.x;
        for (text, style) in parts {
            x = self.buffer.set_stringn(x, area.y, text, end.saturating_sub(x).into(), *style).0;
        }
    }

    /// Cells of given widths, one column apart, after a mark of its own width.
    fn cells(&mut self, mark: &str, cells: &[(u16, String, Style)]) {
        let area = self.take(1).area;
        if area.height == 0 {
            return;
        }
        self.buffer.set_stringn(area.x, area.y, mark, area.width.into(), PLAIN);
        let mut x = area.x.saturating_add(MARK);
        for (width, text, style) in cells {
            let room = area.right().saturating_sub(x).min(*width);
            self.buffer.set_stringn(x.min(area.right()), area.y, text, room.into(), *style);
            x = x.saturating_add(*width).saturating_add(1);
        }
    }

    fn heading(&mut self, text: &str) {
        let width = usize::from(self.area.width);
        self.line(&format!("{:-<width$}", format!("-- {text} ")), BOLD);
    }
}

/// Draws the whole screen.
pub(super) fn draw(model: &Model, now: Now, look: &Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut page = Page { buffer: frame.buffer_mut(), area };
    let prompt = prompt(model, area.width.into());
    let bottom = u16::try_from(prompt.len()).unwrap_or(1).min(area.height.saturating_sub(1));
    head(&mut page.take(1), model, now, look);
    let body = page.area.height.saturating_sub(bottom);
    match &model.mode {
        Mode::Help => HELP.iter().for_each(|line| page.take(body).line(line, PLAIN)),
        Mode::Choose { targets, at, .. } => choice(&mut page.take(body), targets, *at),
        Mode::Table | Mode::Confirm(_) => parts(&mut page.take(body), model, now, look),
    }
    let is_question = matches!(model.mode, Mode::Choose { .. } | Mode::Confirm(_));
    let y = area.bottom().saturating_sub(bottom);
    let mut page = Page { buffer: frame.buffer_mut(), area: Rect { y, height: bottom, ..area } };
    prompt.iter().for_each(|line| page.line(line, if is_question { Style::new().reversed() } else { BOLD }));
}

/// The line at the bottom: a question, what there is to say to the last key, or the keys.
fn prompt(model: &Model, width: usize) -> Vec<String> {
    let text = match (&model.mode, &model.notice) {
        (Mode::Confirm(command), _) => {
            format!("Really? y = yes, every other key = no: {}", clean(&command.text()))
        }
        (Mode::Choose { resource, .. }, _) => {
            format!("To which node with {}? j/k, Enter; Esc = none", clean(resource))
        }
        (_, Some(notice)) => clean(notice),
        (Mode::Help, None) => return vec!["Any key goes on.".to_string()],
        (Mode::Table, None) => return vec![KEYS.to_string()],
    };
    wrap(&text, width).into_iter().take(PROMPT_LINES).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { return lines };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

/// The summary, as `status` has it; or that the daemon is silent. At the end of the line: which node this is, and the time.
fn head(page: &mut Page<'_>, model: &Model, now: Now, look: &Look) {
    let area = page.area;
    let node = model.entries().iter().find_map(detail).map(|detail| format!("{} ", clean(&detail.node)));
    let corner = format!(" {}{}", node.unwrap_or_default(), look.clock(now.unix_ms));
    if let Some(silence) = model.silence(now) {
        let since = look.clock(silence.since_unix_ms);
        let text = format!("no answer from hastmon since {since}; trying again ({})", clean(silence.why));
        page.line(&text, look.of(true).bold());
    } else if model.is_new() {
        page.line("asking hastmon ...", PLAIN);
    } else {
        let Summary { counts, troubles } = summarize(model.entries().iter());
        let troubles = troubles.iter().map(|(is_grave, text)| (clean(text), look.of(*is_grave)));
        let troubles: Vec<_> = troubles.collect();
        let rest = troubles.iter().flat_map(|(text, style)| [("; ", PLAIN), (text.as_str(), *style)]);
        page.parts(&[(counts.as_str(), BOLD)].into_iter().chain(rest).collect::<Vec<_>>());
    }
    // Where there is room for both: what is wrong is worth more than the time.
    let length = u16::try_from(corner.chars().count()).unwrap_or(u16::MAX);
    let Some(x) = area.right().checked_sub(length).filter(|x| *x >= area.x && area.height > 0) else { return };
    let is_free = (x..area.right()).all(|x| page.buffer.cell((x, area.y)).is_none_or(|cell| cell.symbol() == " "));
    if is_free {
        page.buffer.set_string(x, area.y, corner, PLAIN);
    }
}

fn detail(entry: &Entry<ResourceStatus>) -> Option<&Detail> {
    entry.outcome.as_ref().ok()?.detail.as_ref()
}

/// The table, the selected resource, the command, the events: each gets what it needs within its share, the last one what is left.
fn parts(page: &mut Page<'_>, model: &Model, now: Now, look: &Look) {
    let rows = u16::try_from(model.entries().len()).unwrap_or(u16::MAX).saturating_add(1);
    let share = if page.area.height < SMALL { page.area.height } else { page.area.height.saturating_mul(2) / 5 };
    table(&mut page.take(rows.min(share)), model, now, look);
    if let Some(running) = &model.running {
        let how = if running.is_over { "over; Esc puts this away" } else { "at work" };
        let printed = u16::try_from(running.lines.len()).unwrap_or(u16::MAX).saturating_add(1);
        let mut page = page.take(printed.min(COMMAND_LINES));
        page.heading(&format!("{} ({how})", clean(&running.command.text())));
        let skip = running.lines.len().saturating_sub(page.area.height.into());
        running.lines.iter().skip(skip).for_each(|line| page.line(&clean(line), PLAIN));
    }
    if let Some(entry) = model.entries().get(model.selected()) {
        let share = page.area.height.saturating_mul(3) / 5;
        let events = page.area.height.saturating_sub(share);
        let used = resource(&mut Page { buffer: page.buffer, area: Rect { height: share, ..page.area } }, entry, look);
        debug_assert!(used <= page.area.height.saturating_sub(events), "a page takes no more than it has");
        page.take(used);
    }
    events(page, model, look);
}

fn table(page: &mut Page<'_>, model: &Model, now: Now, look: &Look) {
    let mut kept: Vec<usize> = (0..COLUMNS.len()).collect();
    let width = |kept: &[usize]| -> u16 {
        COLUMNS.iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, (_, width, _))| width + 1).sum()
    };
    while MARK + NAME.0 + width(&kept) > page.area.width && !kept.is_empty() {
        let last = COLUMNS.iter().enumerate().filter(|(i, _)| kept.contains(i)).max_by_key(|(_, (.., rank))| *rank);
        let last = last.map(|(i, _)| i);
        kept.retain(|i| Some(*i) != last);
    }
    let name = page.area.width.saturating_sub(MARK + width(&kept)).clamp(1, NAME.1);
    let row = |first: String, cells: [String; 7], style: Style| -> Vec<(u16, String, Style)> {
        let cells = COLUMNS.iter().zip(cells).enumerate().filter(|(i, _)| kept.contains(i));
        let cells = cells.map(|(_, ((_, width, _), text))| (*width, text, style));
        [(name, first, style)].into_iter().chain(cells).collect()
    };
    let count = model.entries().len();
    let titles = COLUMNS.map(|(title, ..)| title.to_string());
    let room = usize::from(page.area.height).saturating_sub(1);
    // The selected row is in view.
    let first = (model.selected() + 1).saturating_sub(room).min(count.saturating_sub(room));
    let title = if count > room { format!("{}/{count}", model.selected() + 1) } else { "RESOURCE".to_string() };
    page.cells("", &row(title, titles, BOLD));
    for (at, entry) in model.entries().iter().enumerate().skip(first).take(room) {
        let is_selected = at == model.selected();
        let troubles = detail(entry).map_or(&[][..], |detail| detail.troubles.as_slice());
        let is_grave = troubles.iter().any(|trouble| trouble.is_grave);
        let style = if troubles.is_empty() { PLAIN } else { look.of(is_grave) };
        let is_wrong = !troubles.is_empty() || entry.outcome.is_err();
        let mark = [if is_selected { '>' } else { ' ' }, if is_wrong { '!' } else { ' ' }].iter().collect::<String>();
        let style = if is_selected { style.bold() } else { style };
        page.cells(&mark, &row(clean(&entry.resource), cells(model, now, entry), style));
    }
}

fn cells(model: &Model, now: Now, entry: &Entry<ResourceStatus>) -> [String; 7] {
    let status = match &entry.outcome {
        Ok(status) => status,
        Err(error) => {
            let [a, b, c, d, e, f] = [(); 6].map(|()| String::new());
            return [format!("error {error}"), a, b, c, d, e, f];
        }
    };
    let dash = || "-".to_string();
    let state = status.worker.as_ref().map_or_else(dash, |worker| worker.state.to_string());
    let is_paused = detail(entry).is_some_and(|detail| detail.pause.is_some());
    let state = if is_paused { format!("paused,{state}") } else { state };
    let Some(detail) = &status.detail else {
        return [status.role.to_string(), state, dash(), dash(), dash(), dash(), dash()];
    };
    let lease = match (detail.is_forced, detail.lease_left, &detail.bound) {
        (true, ..) => "FORCED".to_string(),
        _ if detail.is_kept => "kept".to_string(),
        (false, None, Some((holder, _))) if detail.is_bound_kept => format!("{} kept", clean(holder)),
        (false, Some(left), _) => seconds(model.left(now, left)),
        (false, None, Some((holder, left))) => format!("{} {}", clean(holder), seconds(model.left(now, *left))),
        (false, None, None) => dash(),
    };
    // A primary counts votes; others count those that they could have.
    let votes = if status.role == Role::Primary { detail.votes } else { detail.in_reach };
    [
        status.role.to_string(),
        state,
        detail.runs_on.as_deref().map_or_else(dash, clean),
        lease,
        votes.map_or_else(dash, |votes| format!("{votes}/{}", detail.voters)),
        detail.protection.as_str().to_string(),
        detail.standby.map_or_else(dash, |after| format!("~{}", seconds(after))),
    ]
}

/// By whom it is paused, since when, and how many votes are kept for the primary.
fn paused(status: &ResourceStatus) -> Option<&str> {
    status.lines.iter().find(|(name, _)| name == "paused").map(|(_, value)| value.as_str())
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A length of time that nobody wants to know to the second.
fn roughly(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..172_800 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// What is wrong with the selected resource, its nodes, and the connections that this node makes for it. Says how many lines it took.
fn resource(page: &mut Page<'_>, entry: &Entry<ResourceStatus>, look: &Look) -> u16 {
    let height = page.area.height;
    page.heading(&clean(&entry.resource));
    let Ok(status) = &entry.outcome else { return height - page.area.height };
    if let Some(by) = paused(status) {
        page.line(&format!("paused: {}", clean(by)), look.of(false).bold());
    }
    let detail = status.detail.as_ref();
    // A pause is the first of them; that line above has said more of it.
    let is_told = usize::from(paused(status).is_some() && detail.is_some_and(|detail| detail.pause.is_some()));
    let troubles = detail.map_or(&[][..], |detail| detail.troubles.as_slice());
    for Trouble { is_grave, text } in troubles.iter().skip(is_told) {
        page.line(&format!("! {}", clean(text)), look.of(*is_grave));
    }
    if let Some(why) = detail.and_then(|detail| detail.waits.as_ref()) {
        page.line(&format!("waits: {}", clean(why)), PLAIN);
    }
    page.cells("", &NODE_COLUMNS.map(|(title, width)| (width, title.to_string(), BOLD)));
    let me = detail.map_or("", |detail| detail.node.as_str());
    for node in nodes(status) {
        page.cells("", &node_cells(node, node.node == me));
    }
    for remote in &status.remotes {
        let state = match (&remote.role, &remote.state) {
            (Some(role), Some(state)) => format!("{role}/{state}"),
            (_, state) => state.clone().unwrap_or_else(|| "not called".to_string()),
        };
        page.line(&format!("  calls {}: {}", clean(&remote.addr), clean(&state)), PLAIN);
    }
    height - page.area.height
}

fn node_cells(node: &NodeDetail, is_me: bool) -> [(u16, String, Style); 6] {
    let dash = || "-".to_string();
    let connection = match (is_me, node.connected_for) {
        (true, _) => "this node",
        (false, Some(_)) => "connected",
        (false, None) => "not connected",
    };
    let [name, role, state, link, since, priority] = NODE_COLUMNS.map(|(_, width)| width);
    [
        (name, clean(&node.node), PLAIN),
        (role, node.role.map_or_else(dash, |role| role.to_string()), PLAIN),
        (state, node.state.map_or_else(dash, |state| state.to_string()), PLAIN),
        (link, connection.to_string(), PLAIN),
        (since, node.connected_for.map_or_else(dash, roughly), PLAIN),
        (priority, node.priority.map_or_else(dash, |priority| priority.to_string()), PLAIN),
    ]
}

fn choice(page: &mut Page<'_>, targets: &[Option<NodeDetail>], chosen: usize) {
    // The chosen one is in view.
    let room = usize::from(page.area.height);
    let first = (chosen + 1).saturating_sub(room);
    for (at, target) in targets.iter().enumerate().skip(first) {
        let mark = if at == chosen { ">" } else { " " };
        match target {
            None => page.cells(mark, &[(page.area.width, "the best that is ready".to_string(), PLAIN)]),
            Some(node) => page.cells(mark, &node_cells(node, false)),
        }
    }
}

fn events(page: &mut Page<'_>, model: &Model, look: &Look) {
    match &model.no_history {
        None => page.heading("Last events"),
        Some(why) => page.heading(&format!("No events: {}", clean(why))),
    }
    let skip = model.events.len().saturating_sub(page.area.height.into());
    for event in model.events.iter().skip(skip) {
        let (level, style) = match event.level.as_str() {
            "error" => ("ERROR ", look.of(true)),
            "warning" => ("WARNING ", look.of(false)),
            _ => ("", PLAIN),
        };
        let text = format_line(event.resource.as_deref(), format_args!("{}", event.text));
        page.parts(&[(&look.clock(event.unix_ms), PLAIN), (" ", PLAIN), (level, style), (&text, PLAIN)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{answered, at, entry, event, press, stopped};
    use super::super::model::{Input, Key};
    use super::*;
    use hastmon_core::pause::Paused;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn buffer(model: &Model, now: Now, (width, height): (u16, u16), has_colours: bool) -> Buffer {
        let look = Look { has_colours, zone: TimeZone::UTC };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(model, now, &look, frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_string()).collect()
    }

    /// The screen as text, without spaces at the ends of lines.
    fn screen(model: &Model, now: Now, size: (u16, u16)) -> String {
        lines(&buffer(model, now, size, false)).join("\n")
    }

    fn cluster() -> Model {
        let mut model = answered(vec![entry("web"), entry("db"), stopped("storage")]);
        let events = vec![
            event(Some("web"), "info", "connected to b (tcp4://192.0.2.2)"),
            event(Some("storage"), "warning", "lost the majority"),
        ];
        model.on(at(0), Input::Events { is_start: true, events });
        model
    }

    #[test]
    fn a_screen_of_80_columns_has_everything() {
        let expected = "\
2 of 3 resources run; storage: no primary, 1 of 3 votes               a 00:00:00
  RESOURCE   ROLE      STATE      PRIMARY  LEASE     VOTES PROTECTION    STANDBY
> web        primary   run        a        2.1 s     3/3   lease         -
  db         primary   run        a        2.1 s     3/3   lease         -
 !storage    secondary stopped    -        -         1/3   lease         -
-- web -------------------------------------------------------------------------
  NODE         ROLE      STATE      CONNECTION    SINCE   PRIORITY
  a            primary   run        this node     -       0
  b            secondary stopped    connected     1 min   1
  w            watchdog  run        connected     12 s    100
  calls tcp4://192.0.2.2: connected
-- Last events -----------------------------------------------------------------
00:00:00 [web] connected to b (tcp4://192.0.2.2)
00:00:00 WARNING [storage] lost the majority









j/k select  s switch over  p pause  u resume  ? help  q quit";
        let found = screen(&cluster(), at(400), (80, 24));
        assert_eq!(found, expected, "\n{found}");
    }

    #[test]
    fn the_selected_resource_says_what_is_wrong_and_that_it_is_paused() {
        let mut paused = stopped("storage");
        let status = paused.outcome.as_mut().unwrap();
        status.lines = vec![("paused".to_string(), "by root on a since then".to_string())];
        let by_root = Paused { by: "root".to_string(), since_unix_s: 0, left: None };
        let detail = status.detail.as_mut().unwrap();
        detail.pause = Some(("a".to_string(), by_root));
        detail.troubles.insert(0, Trouble { is_grave: false, text: "paused by root on a".to_string() });
        detail.waits = Some("for votes".to_string());
        let found = screen(&answered(vec![paused]), at(0), (120, 40));
        for part in [
            "\n>!storage",
            " paused,sto ",
            "\npaused: by root on a since then\n! no primary\n! 1 of 3 votes\nwaits: for votes\n",
            "\n  b            -         -          not connected -       -\n",
        ] {
            assert!(found.contains(part), "{part}\n{found}");
        }
    }

    #[test]
    fn a_wide_screen_gives_the_names_more_room() {
        let found = screen(&answered(vec![entry("a-resource-with-a-long-name")]), at(0), (120, 40));
        assert!(found.contains("> a-resource-with-a-long-n primary   run "), "{found}");
        assert_eq!(found.lines().count(), 40);
    }

    #[test]
    fn a_tiny_screen_has_what_matters_most() {
        let found = screen(&cluster(), at(0), (20, 5));
        let expected = "\
2 of 3 resources run
  1/3     STATE
> web     run
  db      run
j/k select  s switch";
        assert_eq!(found, expected, "\n{found}");
        // No size makes it fail.
        for width in 1..30 {
            for height in 1..12 {
                for keys in [&[][..], &[Key::Char('s')], &[Key::Char('s'), Key::Enter], &[Key::Char('?')]] {
                    let mut model = cluster();
                    press(&mut model, keys);
                    screen(&model, at(0), (width, height));
                }
            }
        }
    }

    #[test]
    fn a_question_can_be_read_on_a_small_screen() {
        let mut model = cluster();
        press(&mut model, &[Key::Char('s')]);
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("\n> the best that is ready\n  b            secondary stopped "), "{found}");
        assert!(found.ends_with("\nTo which node with web? j/k, Enter; Esc = none"), "{found}");
        press(&mut model, &[Key::Char('j'), Key::Enter]);
        let found = screen(&model, at(0), (80, 24));
        let question = "\nReally? y = yes, every other key = no: hastmonctl switchover web b";
        assert!(found.ends_with(question), "{found}");
        let found = screen(&model, at(0), (30, 8));
        assert!(found.ends_with("\nReally? y = yes, every other\nkey = no: hastmonctl\nswitchover web b"), "{found}");
    }

    #[test]
    fn what_a_command_prints_is_shown_as_it_comes() {
        let mut model = cluster();
        press(&mut model, &[Key::Char('p'), Key::Char('y')]);
        model.on(at(0), Input::Printed("paused on a b w".to_string()));
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("\n-- hastmonctl pause web (at work) ---"), "{found}");
        assert!(found.contains("\npaused on a b w\n"), "{found}");
        model.on(at(0), Input::Ended("exit status: 1".to_string()));
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("(over; Esc puts this away)") && found.contains("\nexit status: 1\n"), "{found}");
    }

    #[test]
    fn a_silent_daemon_is_said_before_all_else_and_what_was_known_stays() {
        let mut model = cluster();
        model.on(at(1000), Input::Answer(Err("Cannot reach hastmon".to_string())));
        let found = screen(&model, at(61_000), (80, 24));
        let head = "no answer from hastmon since 00:00:00; trying again (Cannot reach hastmon)";
        assert!(found.starts_with(head) && found.contains("\n> web "), "{found}");
        let never = Model::new(at(0), Vec::new());
        assert!(screen(&never, at(100), (80, 24)).starts_with("asking hastmon ... "));
    }

    #[test]
    fn an_unreadable_history_is_one_line() {
        let mut model = answered(vec![entry("web")]);
        model.on(at(0), Input::NoHistory("/var/lib/hastmon: Permission denied".to_string()));
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("\n-- No events: /var/lib/hastmon: Permission denied ---"), "{found}");
    }

    #[test]
    fn of_many_resources_those_around_the_selected_one_are_shown() {
        let mut model = answered((0..1000).map(|number| entry(&format!("r{number}"))).collect());
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("\n  1/1000") && found.contains("\n> r0 ") && !found.contains(" r7 "), "{found}");
        (0..500).for_each(|_| _ = press(&mut model, &[Key::Down]));
        let found = screen(&model, at(0), (80, 24));
        assert!(found.contains("\n> r500 ") && found.contains("\n  501/1000"), "{found}");
    }

    #[test]
    fn a_resource_that_the_daemon_does_not_know_is_an_error_in_its_row() {
        let mut unknown = entry("nosuch");
        unknown.outcome = Err(1);
        let found = screen(&answered(vec![unknown]), at(0), (80, 24));
        assert!(found.contains("\n>!nosuch     error 1\n"), "{found}");
    }

    #[test]
    fn colours_say_nothing_that_words_do_not() {
        let model = cluster();
        let (with, without) = (buffer(&model, at(0), (80, 24), true), buffer(&model, at(0), (80, 24), false));
        assert_eq!(lines(&with), lines(&without));
        assert!(with.content.iter().any(|cell| cell.fg == Color::Red));
        assert!(with.content.iter().any(|cell| cell.fg == Color::Yellow));
        assert!(without.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
    }

    #[test]
    fn nothing_that_others_say_steers_the_terminal() {
        const EVIL: &str = "\u{1b}]0;x\u{7}\u{9b}2J\r\n\u{202e}";
        let mut evil = stopped(EVIL);
        let status = evil.outcome.as_mut().unwrap();
        status.lines = vec![("paused".to_string(), EVIL.to_string())];
        status
            .remotes
            .iter_mut()
            .for_each(|remote| (remote.addr, remote.state) = (EVIL.to_string(), Some(EVIL.to_string())));
        let detail = status.detail.as_mut().unwrap();
        detail.nodes.iter_mut().for_each(|node| (node.node, node.role) = (EVIL.to_string(), Some(Role::Secondary)));
        detail.troubles.iter_mut().for_each(|trouble| trouble.text = EVIL.to_string());
        (detail.node, detail.runs_on, detail.waits) =
            (EVIL.to_string(), Some(EVIL.to_string()), Some(EVIL.to_string()));
        detail.bound = Some((EVIL.to_string(), Duration::from_secs(1)));
        status.role = Role::Primary;
        for keys in [&[][..], &[Key::Char('s')], &[Key::Char('s'), Key::Enter], &[Key::Char('p'), Key::Char('y')]] {
            let mut model = answered(vec![evil.clone()]);
            press(&mut model, keys);
            model.on(at(0), Input::Printed(EVIL.to_string()));
            model.on(at(0), Input::Events { is_start: true, events: vec![event(Some(EVIL), EVIL, EVIL)] });
            model.on(at(0), Input::NoHistory(EVIL.to_string()));
            for failure in [None, Some(EVIL)] {
                failure.into_iter().for_each(|why| _ = model.on(at(0), Input::Answer(Err(why.to_string()))));
                let buffer = buffer(&model, at(0), (200, 60), true);
                let steers = |text: &str| text.chars().any(|letter| letter.is_control() || letter == '\u{202e}');
                assert!(!buffer.content.iter().any(|cell| steers(cell.symbol())));
                assert!(lines(&buffer).join("\n").contains("\\u{1b}"), "it is shown as a code");
            }
        }
    }
}
