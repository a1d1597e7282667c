//! Pods on this machine: a supervisor per pod, drivers, probes, volumes, logs.
