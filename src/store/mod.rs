//! The store: facts, ledger, inbox, leases. The only place that speaks SQL to it.
