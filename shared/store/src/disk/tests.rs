//! What crashes leave behind, and what listings show.
