//! Expressions: CEL by syntax, with Outrigger's own semantics over JSON.
