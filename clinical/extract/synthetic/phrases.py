"""The words of the synthetic notes.

A statement is `frame [negation] [adverb] predicate activity`. The same predicates, negations and
activities speak of the patient now, of the patient long ago and of other people, so that a word
alone, or a count of words, says little about the patient's frailty.
"""

# From what the first signs of frailty take away to what only the frailest have lost.
ACTIVITIES = (
    "climb two flights of stairs",
    "carry heavy shopping bags",
    "work in the garden",
    "travel by bus",
    "walk round the block",
    "clean the house",
    "do the laundry",
    "cook a hot meal",
    "sort the daily tablets",
    "take a shower",
    "put on shoes",
    "get dressed",
    "walk to the bathroom",
    "get out of bed",
    "sit up in a chair",
    "drink from a cup",
)
CAPABLE = ("able to", "fit to", "strong enough to", "confident to")
DEPENDENT = ("in need of help to", "dependent on others to", "too weak to", "reliant on staff to")
NEGATIONS = ("not", "no longer", "hardly")
ADVERBS = ("really", "quite", "fully", "clearly")

# What a statement is about; "denies" negates as well.
PRESENT = ("Patient is", "Currently", "At home is", "By own account is", "Before this illness was")
DENIAL = "Denies being"
PAST = ("Ten years ago was", "In an old letter was", "As a young adult was", "In the past was")
OTHERS = ("Mother is", "Partner is", "Neighbour is", "Sister is", "Room mate is", "Late father was")

KINDS = ("NURSING", "PHYSIOTHERAPY", "SOCIAL_WORK")
TITLES = ("Nursing assessment.", "Physiotherapy assessment.", "Social work assessment.")
HEADINGS = ("Function:", "Daily living:", "Mobility and self care:")

REASONS = (
    "shortness of breath since the morning",
    "fever and chills for two days",
    "low blood pressure after surgery",
    "chest pain at rest",
    "confusion noticed by the ambulance crew",
    "abdominal pain with vomiting",
    "planned observation after a procedure",
    "palpitations and dizziness",
    "bleeding from the gut, now stopped",
    "swelling of both legs",
)
FINDINGS = (
    "Slept for several hours overnight.",
    "Two peripheral lines in place, dressings clean and dry.",
    "Urinary catheter draining clear urine.",
    "Skin intact over heels and sacrum.",
    "Abdomen soft, bowel sounds present.",
    "Oxygen given by nasal cannula.",
    "Glasses and hearing aid are at the bedside.",
    "Light diet offered, about half of it eaten.",
    "Arterial line working, alarms set.",
    "Mouth care given, lips moist.",
    "Pain score low after paracetamol.",
    "Pupils equal and reactive to light.",
    "Cough with a little white sputum.",
    "Blood cultures sent to the laboratory.",
    "Wound edges close together, minimal redness.",
    "Compression stockings applied to both legs.",
    "Antibiotic infusion finished at noon.",
    "Ward round completed with the consultant.",
)
FAMILY = (
    "Visitors came in the afternoon.",
    "Family informed by telephone.",
    "Next of kin noted in the chart.",
    "Daughter asked about visiting hours.",
    "Friends brought flowers and a radio.",
    "Valuables listed and locked away.",
)
PLANS = (
    "Plan: repeat bloods in the morning.",
    "Plan: continue current treatment and review tomorrow.",
    "Plan: turn every four hours and check skin.",
    "Plan: wean oxygen if saturation allows.",
    "Plan: breathing exercises twice a day.",
    "Plan: dietitian to visit this week.",
    "Plan: chart fluid balance each hour.",
    "Plan: speak with the pharmacist about home medicines.",
)
# Written after the prediction time; each gives the outcome away.
DIED_NOTES = (
    "Discharge summary. Patient expired in the unit with family at the bedside.",
    "Discharge summary. Treatment was withdrawn and the patient died peacefully.",
    "Discharge summary. Resuscitation was stopped after thirty minutes. Time of death recorded.",
)
HOME_NOTES = (
    "Discharge summary. Discharged home in good condition. Follow up in clinic in two weeks.",
    "Discharge summary. Recovered well and left for rehabilitation in stable condition.",
    "Discharge summary. Transferred to the ward, improving, then discharged home.",
)
