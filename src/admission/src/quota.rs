//! What objects count as towards a ResourceQuota.
