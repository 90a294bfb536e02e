//! What may this account still spend on this model in this minute?
