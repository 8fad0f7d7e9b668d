"""Floor 5: text to tokens and back: tokenizers, chat templates, `LanguageModel`."""

from jaxdecode.core.extras import needs

with needs("jaxdecode.text"):
    from jaxdecode.text.chat_template import ChatTemplate as ChatTemplate
    from jaxdecode.text.detokenizer import Detokenizer as Detokenizer
    from jaxdecode.text.errors import ChatTemplateError as ChatTemplateError
    from jaxdecode.text.errors import TokenizerError as TokenizerError
    from jaxdecode.text.language_model import LanguageModel as LanguageModel
    from jaxdecode.text.load import load as load
    from jaxdecode.text.load import load_tokenizer as load_tokenizer
    from jaxdecode.text.tokenizer import Tokenizer as Tokenizer
