"""Two writers of one document: refused, lost or merged, by how they write."""
