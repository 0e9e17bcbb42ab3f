"""A bank asks three bureaus about each applicant and needs two scores to decide; the replies race."""
