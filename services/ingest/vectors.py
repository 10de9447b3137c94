"""Text vectors for contents that come without one."""

from dataclasses import replace

from libs.adapters.ports import StoredContent
from libs.text.vectors import TextVectors


async def with_vector(content: StoredContent, vectors: TextVectors) -> StoredContent:
    """Return the content with the vector of its title and description."""
    vector = await vectors.one(content.title, content.description)
    return replace(content, embedding=tuple(vector.tolist()), vector_version=vectors.version)
