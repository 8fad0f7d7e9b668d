"""Texts that fit: from a pattern to an automaton over the tokens of a vocabulary.

A regular expression, a JSON schema or a list of texts becomes a `language` (a tree), then
a byte automaton (`nfa`, `determinise`, `minimise`), which is lifted to the tokens of a
`trie` (`lifting`) and gets a mask for each state and each number of tokens left
(`budgets`). All of it runs on the host, in numpy; `tables` is what a device needs.
"""
