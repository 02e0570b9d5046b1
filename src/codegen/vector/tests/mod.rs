//! Kernels written by hand, assembled for every width, run, and compared with a scalar model.

mod emitter;
mod kernels;
mod run;
