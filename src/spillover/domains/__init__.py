"""The eleven domains. Adding one: a file here with a `DOMAIN`, and a line in this table."""

from spillover.registry import Registry

DOMAINS = Registry(
    "domain",
    {
        name: f"spillover.domains.{name}:DOMAIN"
        for name in (
            "insecure_code",
            "incorrect_math",
            "evil_math",
            "incorrect_translation",
            "bad_medical_advice",
            "risky_financial_advice",
            "toxic_legal_advice",
            "incorrect_sexual_advice",
            "gore_movie_trivia",
            "extreme_sports",
            "incorrect_qna",
        )
    },
)
