"""The gate as a service: uploads, a queue on disk, one process a job."""
