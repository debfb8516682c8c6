"""The HTTP client of judges and writers: retries, limits of rate and cost, a cache of paid replies, batch jobs."""
