#!/usr/bin/env bash
# Software:  PyPI num2words 0.5.14, which writes the amount in words that some countries ask of an
#            invoice.
# Input:     1234 dollars as int and as Decimal in five languages; 12.5 and 1.234 dinars of Kuwait,
#            which have 1000 fils; 12.34 of three currencies in Arabic.
# One would guess: one rule for what an int is; parts of a currency counted by that currency; and
#            the currency that was asked for.
# Seen:      an int is cents in English, Spanish and French, and whole dollars in Korean and Thai: a
#            hundred times as much for the same call in another language. Half a dinar of Kuwait is
#            "cincuenta fils", where it has 500; the third digit of 1.234 goes. Arabic writes dollars
#            and euros as Saudi riyals and halalas; nothing is raised.
#            Output: "en int 1234 USD: twelve dollars, thirty-four cents"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check num2words==0.5.14

cat >words.py <<'PY'
from decimal import Decimal
from num2words import num2words

def say(language, value, currency):
    words = num2words(value, lang=language, to="currency", currency=currency)
    print(f"{language} {type(value).__name__} {value} {currency}: {words}")

for language in ("en", "es", "fr", "ko", "th"):
    for value in (1234, Decimal("1234")):
        say(language, value, "USD")
for amount in ("12.5", "1.234"):
    say("es", Decimal(amount), "KWD")
    say("ar", Decimal(amount), "KWD")
for currency in ("SAR", "EUR", "USD"):
    say("ar", Decimal("12.34"), currency)
PY
PYTHONIOENCODING=utf-8 venv/bin/python words.py >seen

cat >expected <<'TXT'
en int 1234 USD: twelve dollars, thirty-four cents
en Decimal 1234 USD: one thousand, two hundred and thirty-four dollars, zero cents
es int 1234 USD: doce dólares con treinta y cuatro centavos
es Decimal 1234 USD: mil doscientos treinta y cuatro dólares con cero centavos
fr int 1234 USD: douze dollars et trente-quatre cents
fr Decimal 1234 USD: mille deux cent trente-quatre dollars et zéro cents
ko int 1234 USD: 천이백삼십사달러 영센트
ko Decimal 1234 USD: 천이백삼십사달러 영센트
th int 1234 USD: หนึ่งพันสองร้อยสามสิบสี่ดอลลาร์
th Decimal 1234 USD: หนึ่งพันสองร้อยสามสิบสี่ดอลลาร์
es Decimal 12.5 KWD: doce dinares con cincuenta fils
ar Decimal 12.5 KWD: اثنا عشر ديناراً و خمسون فلس
es Decimal 1.234 KWD: un dinar con veintitrés fils
ar Decimal 1.234 KWD: واحد دينار و ثلاث و عشرون فلس
ar Decimal 12.34 SAR: اثنا عشر ريالاً و أربع و ثلاثون هللة
ar Decimal 12.34 EUR: اثنا عشر ريالاً و أربع و ثلاثون هللة
ar Decimal 12.34 USD: اثنا عشر ريالاً و أربع و ثلاثون هللة
TXT
if ! diff -u expected seen; then
  echo "changed: num2words writes an amount in other words" >&2
  exit 1
fi
cat seen
echo "as recorded: an int is cents or whole units by language, and a dinar has 100 fils"
