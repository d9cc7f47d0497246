//! Peer pod VMs as QEMU processes on the worker node itself.
