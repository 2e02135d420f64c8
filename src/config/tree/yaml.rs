//! YAML 1.2 to tree: the core schema without its surprises.
//!
//! Only `true` and `false` are flags and only decimal digits are numbers. Tags, directives, merge keys and
//! further documents are refused: they have no use here, and each has been somebody's way in. Aliases are
//! followed within a budget of nodes.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span as Mark, options};

use super::{Entry, Extent, Kind, MAX_NODES, Node, duplicate};
use crate::config::problem::{Problem, Problems, Span};

/// Deeper nesting has no meaning in any file of ours.
const MAX_DEPTH: usize = 16;

pub(super) fn parse(text: &str, problems: &mut Problems) -> (Node, Extent) {
    let options = options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader {
        next: Box::new(move || {
            loop {
                match events.next_event()? {
                    Ok((Event::StreamStart | Event::DocumentStart(..), _)) => {}
                    Ok((Event::StreamEnd, _)) => return None,
                    Ok(event) => return Some(Ok(event)),
                    Err(error) => return Some(Err((error.marker().byte_offset().unwrap_or(0), error.info()))),
                }
            }
        }),
        problems,
        anchors: HashMap::new(),
        nodes: 0,
        extent: Extent::Whole,
    };
    let node = match reader.event() {
        // A document of comments only.
        None | Some((Event::DocumentEnd, _)) => Node { span: 0..0, kind: Kind::Map(Vec::new()) },
        Some((event, mark)) => {
            let node = reader.node(event, &mark).node;
            reader.end();
            node
        }
    };
    (node, reader.extent)
}

type Pull<'t> = Box<dyn FnMut() -> Option<Result<(Event<'t>, Mark), (usize, String)>> + 't>;

struct Reader<'t, 'p> {
    next: Pull<'t>,
    problems: &'p mut Problems,
    anchors: HashMap<usize, Weighed>,
    nodes: usize,
    extent: Extent,
}

/// A node and how many nodes it consists of.
#[derive(Clone)]
struct Weighed {
    node: Node,
    weight: usize,
}

impl<'t> Reader<'t, '_> {
    /// The next event; after a syntax error there is none.
    fn event(&mut self) -> Option<(Event<'t>, Mark)> {
        if self.extent == Extent::Part {
            return None;
        }
        match (self.next)()? {
            Ok(event) => Some(event),
            Err((at, message)) => {
                let help = match message.as_str() {
                    message if message.contains("tab") => "indent with spaces",
                    message if message.contains("recursion") => "nothing in this file nests that deep",
                    _ => "check indentation, quotes and brackets here and on the line before",
                };
                self.stop(Problem::new(at..at, format!("not valid YAML: {message}"), "").help(help));
                None
            }
        }
    }

    fn stop(&mut self, problem: Problem) {
        if self.extent == Extent::Whole {
            self.extent = Extent::Part;
            self.problems.push(problem);
        }
    }

    fn node(&mut self, event: Event<'t>, mark: &Mark) -> Weighed {
        let mut span = span_of(mark);
        self.nodes += 1;
        self.refuse_tag(&event, mark);
        let (kind, anchor, below) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor, 0),
            Event::SequenceStart(_, anchor, _) => {
                let (items, below, end) = self.list();
                span.end = end.unwrap_or(span.end);
                (Kind::List(items), anchor, below)
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, below, end) = self.map();
                span.end = end.unwrap_or(span.end);
                (Kind::Map(entries), anchor, below)
            }
            Event::Alias(id) => return self.alias(id, span),
            _ => (Kind::Unreadable, 0, 0),
        };
        if self.nodes > MAX_NODES {
            self.stop(too_large(span.clone()));
        }
        let made = Weighed { node: Node { span, kind }, weight: below + 1 };
        if anchor != 0 {
            self.anchors.insert(anchor, made.clone());
        }
        made
    }

    fn alias(&mut self, id: usize, span: Span) -> Weighed {
        let unreadable = Weighed { node: Node { span: span.clone(), kind: Kind::Unreadable }, weight: 1 };
        let Some(target) = self.anchors.get(&id) else {
            self.problems.push(Problem::new(span, "an alias stands inside its own anchor", "refers to itself"));
            return unreadable;
        };
        self.nodes += target.weight;
        if self.nodes > MAX_NODES {
            self.stop(too_large(span));
            return unreadable;
        }
        let mut copy = target.clone();
        copy.node.span = span;
        copy
    }

    fn list(&mut self) -> (Vec<Node>, usize, Option<usize>) {
        let (mut items, mut weight) = (Vec::new(), 0);
        while let Some((event, mark)) = self.event() {
            if event == Event::SequenceEnd {
                return (items, weight, Some(span_of(&mark).end));
            }
            let item = self.node(event, &mark);
            weight += item.weight;
            items.push(item.node);
        }
        (items, weight, None)
    }

    fn map(&mut self) -> (Vec<Entry>, usize, Option<usize>) {
        let (mut entries, mut weight) = (Vec::<Entry>::new(), 0);
        while let Some((event, mark)) = self.event() {
            if event == Event::MappingEnd {
                return (entries, weight, Some(span_of(&mark).end));
            }
            let key_span = span_of(&mark);
            let key = match &event {
                Event::Scalar(text, ..) => Some(text.clone().into_owned()),
                _ => None,
            };
            weight += self.node(event, &mark).weight;
            let value = match self.event() {
                Some((event, mark)) => self.node(event, &mark),
                None => Weighed { node: Node { span: key_span.clone(), kind: Kind::Unreadable }, weight: 1 },
            };
            weight += value.weight;
            match key {
                None => self.problems.push(Problem::new(key_span, "a key has to be a plain word", "not a word")),
                Some(key) if key == "<<" => self.problems.push(
                    Problem::new(key_span, "merge keys (`<<`) are not supported", "")
                        .help("write the settings out, or use an alias for the whole value"),
                ),
                Some(key) if entries.iter().any(|entry| entry.key == key) => {
                    self.problems.push(duplicate(&key, key_span));
                }
                Some(key) => entries.push(Entry { key, key_span, value: value.node }),
            }
        }
        (entries, weight, None)
    }

    fn refuse_tag(&mut self, event: &Event<'t>, mark: &Mark) {
        if event.tag().is_some() {
            let span = mark.tag_span().map_or_else(|| span_of(mark), |tag| span_of(&tag));
            self.problems.push(Problem::new(span, "YAML tags are not supported", "").help("remove the tag"));
        }
    }

    fn end(&mut self) {
        while let Some((event, mark)) = self.event() {
            if event != Event::DocumentEnd {
                let problem = Problem::new(span_of(&mark), "the file holds more than one YAML document", "")
                    .help("remove everything from the second `---` on");
                self.stop(problem);
            }
        }
    }
}

fn too_large(span: Span) -> Problem {
    Problem::new(span, format!("the file has more than {MAX_NODES} values, aliases counted in full"), "")
}

fn span_of(mark: &Mark) -> Span {
    let range = mark.byte_range().unwrap_or(0..0);
    range.start..range.end.max(range.start)
}

fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Flag(true),
        "false" | "False" | "FALSE" => return Kind::Flag(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or(Kind::Foreign("a number too large"), Kind::Whole);
    }
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<f64>().is_ok();
    if numeric { Kind::Foreign("a number with a fraction") } else { Kind::Text(text.to_owned()) }
}
