//! Object stores, the create-only commit, decorators, the local cache.
