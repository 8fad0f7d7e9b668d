"""Floor 2: what attention remembers, column by column."""

from jaxdecode.cache.bits import from_bits as from_bits
from jaxdecode.cache.bits import to_bits as to_bits
from jaxdecode.cache.kv import KVCache as KVCache
from jaxdecode.cache.kv import as_numbers as as_numbers
from jaxdecode.cache.shared import SharedCache as SharedCache
from jaxdecode.cache.stacked import StackedCache as StackedCache
