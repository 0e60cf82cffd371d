//! The span of a request of a client in a trace (OpenTelemetry, "Semantic conventions for Model
//! Context Protocol"). Without the feature `otel` there is none, and the trace that a client names
//! is passed on as it is.

#[cfg(feature = "otel")]
pub(crate) use recorded::Span;
#[cfg(not(feature = "otel"))]
pub(crate) use unrecorded::Span;

#[cfg(not(feature = "otel"))]
mod unrecorded {
    use mcpool_core::{Raw, ServerName, TraceContext};
    use serde::Serialize;

    /// Nothing.
    pub(crate) struct Span;

    impl Span {
        pub(crate) fn begin(_: &ServerName, _: &str, _: &str, _: Option<&Raw>) -> Self {
            Self
        }

        pub(crate) fn context(&self) -> Option<TraceContext> {
            None
        }

        pub(crate) fn end(&mut self, _: &impl Serialize, _: bool) {}
    }
}

#[cfg(feature = "otel")]
mod recorded {
    use std::str::FromStr as _;

    use mcpool_core::{Raw, ServerName, TraceContext, Untrusted};
    use opentelemetry::{
        Context, KeyValue,
        global::{self, BoxedSpan},
        trace::{
            Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
            TraceId, TraceState, Tracer as _,
        },
    };
    use serde::Serialize;

    /// Who records the spans.
    const SCOPE: &str = "mcpool-gateway";

    /// Characters of a name that a span has.
    const MAX_NAME: usize = 200;

    /// A span that has begun. Its end is reported with [`end`](Self::end).
    pub(crate) struct Span(BoxedSpan);

    impl Span {
        /// Begins the span of a request, below the one that its parameters name.
        pub(crate) fn begin(
            server: &ServerName,
            method: &str,
            name: &str,
            params: Option<&Raw>,
        ) -> Self {
            let parent = params.and_then(TraceContext::of_params);
            let parent = parent.as_ref().and_then(remote);
            let context = match parent {
                Some(parent) => Context::new().with_remote_span_context(parent),
                None => Context::new(),
            };
            let name = Untrusted::line(name).clip(MAX_NAME).to_string();
            let of = match method {
                "tools/call" => "gen_ai.tool.name",
                "prompts/get" => "gen_ai.prompt.name",
                _ => "mcp.resource.uri",
            };
            let tracer = global::tracer(SCOPE);
            let title = match of {
                // A span's name is one of few; a URI is one of many.
                "mcp.resource.uri" => method.to_owned(),
                _ => format!("{method} {name}"),
            };
            let span = tracer
                .span_builder(title)
                .with_kind(SpanKind::Server)
                .with_attributes([
                    KeyValue::new("mcp.method.name", method.to_owned()),
                    KeyValue::new(of, name),
                    KeyValue::new("mcpool.server", server.to_string()),
                ]);
            Self(span.start_with_context(&tracer, &context))
        }

        /// The context for the server: this span has caused its own.
        pub(crate) fn context(&self) -> Option<TraceContext> {
            let context = self.0.span_context();
            if !context.is_valid() {
                return None;
            }
            let parent = format!(
                "00-{}-{}-{:02x}",
                context.trace_id(),
                context.span_id(),
                context.trace_flags().to_u8()
            );
            let state = context.trace_state().header();
            TraceContext::new(&parent, Some(&state))
        }

        /// Ends it with what came of the request.
        pub(crate) fn end(&mut self, outcome: &impl Serialize, is_good: bool) {
            let outcome = match serde_json::to_value(outcome) {
                Ok(serde_json::Value::String(outcome)) => outcome,
                _ => String::new(),
            };
            if !is_good {
                self.0
                    .set_attribute(KeyValue::new("error.type", outcome.clone()));
                self.0.set_status(Status::error(outcome.clone()));
            }
            self.0
                .set_attribute(KeyValue::new("mcpool.outcome", outcome));
            self.0.end();
        }
    }

    /// The span of another program.
    fn remote(context: &TraceContext) -> Option<SpanContext> {
        let mut parts = context.traceparent().split('-').skip(1);
        let trace = TraceId::from_hex(parts.next()?).ok()?;
        let span = SpanId::from_hex(parts.next()?).ok()?;
        let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
        let state = context.tracestate().map(TraceState::from_str);
        let state = state.and_then(Result::ok).unwrap_or_default();
        Some(SpanContext::new(
            trace,
            span,
            // Of the flags only the first has a meaning that is passed on.
            TraceFlags::new(flags) & TraceFlags::SAMPLED,
            true,
            state,
        ))
    }
}
