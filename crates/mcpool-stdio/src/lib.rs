//! mcpool-stdio.
