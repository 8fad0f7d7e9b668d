"""Floor 2: kernels in C for the CPU, compiled on the machine that runs them."""

from jaxdecode.native.attend import HEAD_MULTIPLE as HEAD_MULTIPLE
from jaxdecode.native.attend import attend_columns as attend_columns
from jaxdecode.native.library import begin_to_build as begin_to_build
from jaxdecode.native.library import current_platform as current_platform
from jaxdecode.native.library import is_available as is_available
from jaxdecode.native.library import why_no_token_kernel as why_no_token_kernel
from jaxdecode.native.library import why_unavailable as why_unavailable
from jaxdecode.native.panels import WORDS as WORDS
from jaxdecode.native.panels import Choice as Choice
from jaxdecode.native.panels import Panels as Panels
from jaxdecode.native.panels import look_up as look_up
from jaxdecode.native.panels import pack as pack
from jaxdecode.native.panels import packed_shape as packed_shape
from jaxdecode.native.panels import resolved as resolved
from jaxdecode.native.panels import unpack as unpack
from jaxdecode.native.panels import unpacked as unpacked
from jaxdecode.native.product import GATES as GATES
from jaxdecode.native.product import panel_products as panel_products
from jaxdecode.native.whole_rows import best_indices as best_indices
from jaxdecode.native.whole_rows import noise_bits as noise_bits
from jaxdecode.native.whole_rows import noisy_candidates as noisy_candidates
from jaxdecode.native.whole_rows import put_and_survey as put_and_survey
from jaxdecode.native.whole_rows import sorted_row as sorted_row
from jaxdecode.native.whole_rows import survey as survey
